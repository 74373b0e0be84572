"""The command ``gloo-nomad``."""

import sys
from typing import Final

_INTERRUPTED: Final = 130


def main() -> None:
    """Runs the command line; Ctrl-C while its modules are loaded ends it like any other one."""
    try:
        from gloo_nomad.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
