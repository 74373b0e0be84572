"""An access token: fixed, or in a file that somebody else renews (Nomad's workload identity, an agent)."""

from pathlib import Path
from typing import Final


class Token:
    """A token that never shows itself. ``read`` gives the present one, following the file if there is one."""

    __slots__ = ("_file", "_stamp", "_text")

    def __init__(self, text: str = "", file: str = "") -> None:
        self._text = text
        self._file = Path(file) if file else None
        self._stamp: tuple[int, int, int] | None = None

    def read(self) -> str:
        """The token; the last one known as long as the file cannot be read, empty for none."""
        if self._file is not None:
            self._follow(self._file)
        return self._text

    def _follow(self, file: Path) -> None:
        try:
            found = file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._text = file.read_text().strip() or self._text
                self._stamp = stamp
        except (OSError, UnicodeDecodeError):
            self._stamp = None

    def __repr__(self) -> str:
        return "Token(***)"


NO_TOKEN: Final = Token()
"""Anonymous."""
