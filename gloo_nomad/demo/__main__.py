"""``python -m gloo_nomad.demo folder`` or ``cluster``: Ctrl-C ends a demo quietly also while its modules are loaded."""

import importlib
import sys


def main(name: str) -> int:
    """Runs the demo of that name; the exit code."""
    try:
        demo = importlib.import_module(f"gloo_nomad.demo.{name}")
    except KeyboardInterrupt:
        return 0
    return int(demo.main())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
