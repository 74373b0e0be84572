"""The protocol cases of xDS as a table: ``python -m tests.xds_cases`` writes it into ``docs/xds.md``.

A case is a test of ``tests/servers`` that speaks to a real xDS server; its meaning is the first line of its docstring.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parent.parent
PAGE: Final = CHECKOUT / "docs" / "xds.md"
BEGIN, END = "<!-- cases -->\n", "<!-- end of cases -->\n"
_FILES: Final = ("test_xds_*.py", "test_envoy_over_xds.py", "test_envoy_split_hosts.py", "test_envoy_scoped_routes.py")
RAW, GRPC, ENVOY = "raw client", "gRPC", "Envoy"


@dataclass(frozen=True)
class Case:
    """One test; with parameters it runs several times."""

    name: str
    client: str
    meaning: str


def collect_cases() -> list[Case]:
    """All of them, in the order of files and of the tests in them."""
    paths = [path for pattern in _FILES for path in sorted((CHECKOUT / "tests" / "servers").glob(pattern))]
    return [case for path in paths for case in _cases_of(path)]


def _cases_of(path: Path) -> Iterator[Case]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
            meaning = (ast.get_docstring(node) or "").split("\n")[0]
            yield Case(node.name.removeprefix("test_").replace("_", " "), _client(path, node), meaning)


def _client(path: Path, node: ast.AsyncFunctionDef) -> str:
    if any(argument.arg == "run_envoy" for argument in node.args.args):
        return ENVOY
    return GRPC if "grpc_client" in path.name else RAW


def build_table() -> str:
    """The table as Markdown."""
    cases = collect_cases()
    counts = ", ".join(f"{sum(case.client == client for case in cases)} by {client}" for client in (RAW, GRPC, ENVOY))
    lines = [f"{len(cases)} cases: {counts}.", "", "| case | client | what holds |", "|---|---|---|"]
    lines += [f"| {case.name} | {case.client} | {case.meaning.replace('|', '/')} |" for case in cases]
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    return f"{before}{BEGIN}{build_table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
