"""One target for so many seconds, in a process of its own: ``python -m tests.fuzz.child TARGET SECONDS FOLDER``.

With atheris, inputs are led by what code they reach; where it has no build for this Python or machine, they are those
of ``mutation``. The last line says how many there were; a finding ends the process, with its input in the folder.
"""

import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.fuzz.mutation import MOST_BYTES, mutations
from tests.fuzz.registry import CORPUS, Fuzz, kept_inputs, load_target

INPUT_SECONDS: Final = 10
"""What one input may take."""
MEMORY_MIB: Final = 2_048
"""What the process may take."""


def main(target: str, seconds: int, folder: Path) -> None:
    """Runs it; does not return with atheris."""
    try:
        import atheris
    except ImportError:
        _run_plain(target, load_target(target), seconds, folder)
        return
    with atheris.instrument_imports(include=["gloo_nomad"], enable_loader_override=False):
        fuzz = load_target(target)
    _run_atheris(atheris, target, fuzz, seconds, folder)


def _run_atheris(atheris: Any, target: str, fuzz: Fuzz, seconds: int, folder: Path) -> None:
    new = folder / "new"
    new.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={MOST_BYTES}",
        f"-artifact_prefix={folder}/finding-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]

    def run(data: bytes) -> None:
        fuzz(data)

    atheris.Setup([sys.argv[0], *options, str(new), str(CORPUS / target)], run)
    atheris.Fuzz()


def _run_plain(target: str, fuzz: Fuzz, seconds: int, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB * 2**20, MEMORY_MIB * 2**20))
    ending, count = time.monotonic() + seconds, 0
    for data in mutations(kept_inputs(target), time.time_ns()):
        if time.monotonic() > ending:
            break
        (folder / "finding-last").write_bytes(data)
        fuzz(data)
        count += 1
    (folder / "finding-last").unlink(missing_ok=True)
    print(f"stat::number_of_executed_units: {count}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
