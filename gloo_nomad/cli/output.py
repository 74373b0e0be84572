"""What commands print: tables for people, JSON and YAML for programs.

On a terminal a table fits its width. In a pipe every row is one line, however long, so that ``grep`` finds it.
"""

import io
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gloo_nomad.api import codec
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.frontdoor.documents import UNKNOWN
from gloo_nomad.reports import Problem, Severity, describe_problem

_UNLIMITED: Final = 100_000
_STATES: Final = {"Accepted": "green", "Warning": "yellow", "Rejected": "bold red", "Pending": "dim"}


class Format(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FORMAT: Final = typer.Option(Format.TABLE, "--output", "-o", help="How to print the answer.", show_default=True)
"""The option that every command has that prints something."""


def print_data(data: Any, chosen: Format) -> None:
    """Prints a document as JSON or YAML; a list in YAML is a stream of documents."""
    if chosen is Format.YAML:
        documents = data if isinstance(data, list) else [data]
        print("---\n".join(codec.to_yaml(document) for document in documents), end="")
    else:
        print(codec.to_json(data))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Prints a table; cells with line breaks become one line in a pipe."""
    terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = shutil.get_terminal_size((80, 24)).columns if terminal else _UNLIMITED
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(
            column, overflow="fold", no_wrap=not terminal, ratio=None, max_width=_limit(number, len(columns), width)
        )
    for row in rows:
        table.add_row(*(_cell(cell, one_line=not terminal) for cell in row))
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=sys.stdout.isatty(), highlight=False, no_color=_no_color())
    console.print(table)
    for line in out.getvalue().splitlines():
        print(line.rstrip())


def _limit(number: int, columns: int, width: int) -> int | None:
    """All columns but the last leave room for the others."""
    return width // min(columns, 3) if number < columns - 1 and width < _UNLIMITED else None


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()


def _cell(cell: str | Text, *, one_line: bool) -> Text:
    text = cell if isinstance(cell, Text) else Text(cell)
    if one_line and "\n" in text.plain:
        return Text(" ".join(text.plain.split()), text.style)
    return text


def shown(ref: ObjectRef) -> str:
    """An object's name in two lines, or the place of what is no object."""
    return ref.name if ref.kind == UNKNOWN else f"{ref.kind}\n{ref.namespace}.{ref.name}"


def named(ref: ObjectRef) -> str:
    """The same in one line."""
    return ref.name if ref.kind == UNKNOWN else str(ref)


def styled_state(state: str) -> Text:
    """The state of a status in its colour."""
    return Text(state, _STATES.get(state, ""))


def styled_level(level: str) -> Text:
    """``ok``, ``warning`` or ``error`` in its colour."""
    return Text(level, {"ok": "green", "warning": "yellow", "error": "bold red"}.get(level, ""))


def print_problems(problems: Sequence[Problem], chosen: Format) -> None:
    """Prints problems, and in a table how many there are."""
    if chosen is not Format.TABLE:
        print_data([describe_problem(problem) for problem in problems], chosen)
        return
    if problems:
        print_table(
            ("SEVERITY", "OBJECT", "PROBLEM"),
            [
                (
                    styled_level(problem.severity.name.lower()),
                    shown(problem.ref),
                    f"{problem.path}:\n{problem.message}" if problem.path else problem.message,
                )
                for problem in problems
            ],
        )


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 error``, ``2 errors``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def summary(problems: Sequence[Problem], objects: int) -> str:
    """How many objects were looked at, and what was found."""
    errors = sum(problem.severity >= Severity.ERROR for problem in problems)
    warnings = len(problems) - errors
    return f"{count(objects, 'object')}: {count(errors, 'error')}, {count(warnings, 'warning')}"
