"""How a command ends without success."""

from typing import Final

FAILED: Final = 1
"""The command worked, and found errors; or it could not do what was asked."""
BROKEN: Final = 70
"""A defect of this program."""
INTERRUPTED: Final = 130


class CommandError(Exception):
    """Ends a command with one line on standard error; the text says what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
