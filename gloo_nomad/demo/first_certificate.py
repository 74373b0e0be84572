"""Makes the example Secret of a folder, unless it is there: ``python -m gloo_nomad.demo.first_certificate FOLDER``.

The certificate is for localhost and signed by an authority that is forgotten at once: clients are told not to check it.
"""

import argparse
import os
import sys
from pathlib import Path

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import SECRET
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.seed import CERTIFICATE

NAMES = ("localhost", "127.0.0.1", "gateway-proxy")
DAYS = 90


def write_certificate(folder: Path) -> bool:
    """Writes ``FOLDER/secrets/<namespace>/<name>.yaml``, readable by its owner; False if it is there already."""
    namespace, name = CERTIFICATE
    file = folder / SECRET.plural / namespace / f"{name}.yaml"
    if file.exists():
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "metadata": {"name": name, "namespace": namespace},
        **Authority().issue(*NAMES, days=DAYS).build_secret(),
    }
    unfinished = file.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(codec.to_yaml(document))
    unfinished.rename(file)
    return True


def main() -> int:
    """Writes it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gloo_nomad.demo.first_certificate", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        written = write_certificate(folder)
    except OSError as failure:
        print(f"no certificate in {folder}: {failure.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    print("certificate written" if written else "the certificate is there already")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
