"""Which targets there are, and the inputs that are kept for them."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fuzz import targets

CORPUS: Final = Path(__file__).parent / "corpus"
Fuzz = Callable[[bytes], object]


def target_names() -> list[str]:
    """All targets."""
    return sorted(module.name for module in pkgutil.iter_modules(targets.__path__))


def load_target(name: str) -> Fuzz:
    """The function of a target."""
    found: Fuzz = importlib.import_module(f"{targets.__name__}.{name}").fuzz
    return found


def kept_inputs(name: str) -> list[bytes]:
    """The corpus of a target, in a fixed order."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
