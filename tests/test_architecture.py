"""The architecture, read from the code itself: purity, sizes, names, documentation."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from google.protobuf import descriptor_pool

import gloo_nomad
from gloo_nomad.options.cases import option_names
from gloo_nomad.options.hooks import HOOK_NAMES

PACKAGE: Final = Path(gloo_nomad.__file__).parent
CHECKOUT: Final = PACKAGE.parent
THIS: Final = Path(__file__)
"""This file names what no other may."""
PURE: Final = ("gateway", "envoy", "options", "upstreams")
IMPURE: Final = frozenset(
    {"asyncio", "aiohttp", "grpc", "http", "logging", "os", "random", "requests", "secrets", "signal", "socket", "ssl",
     "structlog", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "uvicorn"}
)  # fmt: skip
EFFECTS: Final = tuple(
    path
    for pattern in (
        "pipeline/*effects*.py",
        "pipeline/http_gateways.py",
        "servers/test_http3*.py",
        "servers/test_envoy*.py",
    )
    for path in sorted(THIS.parent.glob(pattern))
)
"""Where requests go through a real Envoy for the sake of options."""
MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60
MAX_NESTING: Final = 3
FORBIDDEN_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc", "stuff"})
BLOCKS: Final = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)
"""What nests: decisions, loops and rescues. A `with` says how long something is held, and is no decision."""
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
UNFINISHED: Final = re.compile(r"\b(?:TODO|FIXME|XXX|HACK|WIP)\b|NotImplementedError")
FOREIGN: Final = re.compile(
    r"/root/|/home/[a-z]|/Users/|/work/|\bpypi\.org|\bdocker\.io/|\bghcr\.io/|\bquay\.io/|\bgcr\.io/"
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _modules(*folders: Path) -> list[Path]:
    return sorted(
        path for folder in folders for path in folder.rglob("*.py") if "gen" not in path.parts and _is_ours(path)
    )


def _is_ours(path: Path) -> bool:
    return not {".venv", "__pycache__", "node_modules"} & set(path.parts)


CODE: Final = _modules(PACKAGE)
TESTS: Final = _modules(CHECKOUT / "tests")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _label(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, FUNCTIONS):
            yield node


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@cache
def _own_module(name: str) -> Path | None:
    """The file of one of our modules; None for another's, for a name inside a module, and for generated code."""
    base = CHECKOUT.joinpath(*name.split("."))
    found = next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
    return None if found is None or "gen" in found.parts else found


def _reach(path: Path, seen: set[Path]) -> Iterator[tuple[Path, str]]:
    """Every import that *path* leads to through modules of ours, with the module that has it."""
    seen.add(path)
    for name in _imports(path):
        own = _own_module(name) if name.startswith("gloo_nomad") else None
        if own is None:
            yield path, name
        elif own not in seen:
            yield from _reach(own, seen)


@pytest.mark.parametrize("folder", PURE)
def test_translation_is_pure(folder: str) -> None:
    """The stages in the middle import nothing that waits, talks, remembers the time or rolls dice, however far away."""
    found = {
        f"{_label(module)} imports {name}"
        for path in _modules(PACKAGE / folder)
        for module, name in _reach(path, set())
        if name.split(".")[0] in IMPURE
    }

    assert not found, "\n".join(sorted(found))


def test_modules_are_short() -> None:
    """No module is longer than 400 lines."""
    long = [
        f"{_label(path)}: {lines} lines"
        for path in (*CODE, *TESTS)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_MODULE_LINES
    ]

    assert not long, "\n".join(long)


def test_functions_are_short() -> None:
    """No function is longer than 60 lines."""
    long = [
        f"{_label(path)}: {function.name} has {lines} lines"
        for path in (*CODE, *TESTS)
        for function in _functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    ]

    assert not long, "\n".join(long)


def test_functions_are_flat() -> None:
    """Blocks are nested three deep at most."""
    deep = [
        f"{_label(path)}: {function.name} nests {depth} deep"
        for path in (*CODE, *TESTS)
        for function in _functions(path)
        if (depth := _depth(function)) > MAX_NESTING
    ]

    assert not deep, "\n".join(deep)


def _depth(node: ast.AST) -> int:
    """How deep blocks are nested; `elif` is no deeper than its `if`, and an inner function starts anew."""
    return max((_depth_of_child(node, child) for child in ast.iter_child_nodes(node)), default=0)


def _depth_of_child(parent: ast.AST, child: ast.AST) -> int:
    if isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
        return 0
    is_elif = isinstance(parent, ast.If) and parent.orelse == [child] and isinstance(child, ast.If)
    return _depth(child) + (isinstance(child, BLOCKS) and not is_elif)


def test_modules_and_public_names_are_documented() -> None:
    """Every module, public class and public function says what it means; hooks are documented by their Protocol."""
    bare = [f"{_label(path)}: {name}" for path in CODE for name in _undocumented(path)]

    assert not bare, "\n".join(bare)


def _undocumented(path: Path) -> Iterator[str]:
    tree = _tree(path)
    if not ast.get_docstring(tree) and not (path.name == "__init__.py" and not tree.body):
        yield "the module"
    hooks = HOOK_NAMES if path.parent.name in ("options", "upstreams") else ()
    for node in tree.body:
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or node.name.startswith("_") or node.name in hooks:
            continue
        if not ast.get_docstring(node):
            yield node.name
        inner = node.body if isinstance(node, ast.ClassDef) else []
        yield from (
            f"{node.name}.{method.name}"
            for method in inner
            if isinstance(method, FUNCTIONS) and not method.name.startswith("_") and not ast.get_docstring(method)
        )


def test_tests_state_their_fact() -> None:
    """Every test has a docstring of its own."""
    bare = [
        f"{_label(path)}: {function.name}"
        for path in TESTS
        for function in _functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]

    assert not bare, "\n".join(bare)


def test_no_test_is_skipped() -> None:
    """No test is skipped or expected to fail."""
    mark = re.compile(r"\.(?:skip|skipif|xfail|importorskip)\b")
    found = [_label(path) for path in TESTS if path != THIS and mark.search(path.read_text(encoding="utf-8"))]

    assert not found, "\n".join(found)


def test_no_module_is_a_drawer() -> None:
    """No module has a name under which anything could be."""
    found = [_label(path) for path in (*CODE, *TESTS) if {path.stem, path.parent.name} & FORBIDDEN_NAMES]

    assert not found, "\n".join(found)


def _texts() -> Iterator[Path]:
    """Everything that people read, generated and locked files aside."""
    suffixes = {".py", ".proto", ".md", ".hcl", ".yaml", ".yml", ".toml", ".json", ".sh", ""}
    roots = [PACKAGE, *(CHECKOUT / name for name in ("tests", "jobs", "consul-kv-seed", "docs", ".ci"))]
    files = [path for root in roots if root.is_dir() for path in root.rglob("*")]
    files += [*CHECKOUT.glob("*.md"), CHECKOUT / "Makefile", CHECKOUT / "pyproject.toml"]
    for path in sorted(files):
        wanted = path.suffix in suffixes and _is_ours(path) and "gen" not in path.parts and path != THIS
        if wanted and path.is_file():
            yield path


def _mentions(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{_label(path)}:{number}: {found[0]}"
        for path in _texts()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if (found := pattern.search(line))
    ]


def test_nothing_is_unfinished() -> None:
    """No mark says that something is still to be done."""
    found = _mentions(UNFINISHED)

    assert not found, "\n".join(found)


def test_no_path_or_host_of_a_machine() -> None:
    """No folder of some machine and no registry is named."""
    found = _mentions(FOREIGN)

    assert not found, "\n".join(found)


def test_every_option_has_its_cases() -> None:
    """An option is two files: the code, and its golden cases; and there are no cases without an option."""
    files = {path.stem for path in (PACKAGE / "options").glob("*.yaml")}

    assert files == set(option_names())


@pytest.mark.parametrize("name", option_names())
def test_every_option_has_an_effect(name: str) -> None:
    """What an option claims, or the name of its extension, is set where a real Envoy shows effects."""
    module = importlib.import_module(f"gloo_nomad.options.{name}")
    claimed = [*getattr(module, "FIELDS", {}).items(), *getattr(module, "REFUSED", {}).items()]
    names = set(getattr(module, "EXTENSIONS", ())) | {
        descriptor.camelcase_name
        for message, fields in claimed
        for descriptor in descriptor_pool.Default().FindMessageTypeByName(message).fields
        if descriptor.name in fields
    }
    shown = "".join(path.read_text(encoding="utf-8") for path in EFFECTS)

    assert any(f'"{name}":' in shown for name in names)


def test_options_are_in_no_list() -> None:
    """No file names an option's module: adding one edits nothing."""
    names = "|".join(option_names())
    pattern = re.compile(rf"gloo_nomad\.options(?:\.| import )(?:{names})\b")
    found = [_label(path) for path in CODE if pattern.search(path.read_text(encoding="utf-8"))]

    assert not found, "\n".join(found)


def test_one_verb_has_one_meaning() -> None:
    """`build_x` returns something, and an asynchronous `watch_x` yields, or goes on until it is cancelled."""
    wrong = [
        f"{_label(path)}: {function.name}"
        for path in CODE
        for function in _functions(path)
        if not _keeps_its_word(function)
    ]

    assert not wrong, "\n".join(wrong)


def _keeps_its_word(function: Function) -> bool:
    verb = function.name.lstrip("_").split("_")[0]
    returned = ast.unparse(function.returns or ast.Constant(None))
    if verb == "build":
        return returned != "None"
    if verb == "watch" and isinstance(function, ast.AsyncFunctionDef):
        return "Iterator" in returned or "Generator" in returned or returned in ("None", "Never", "NoReturn")
    return True


def test_pure_appliers_change_out_only() -> None:
    """In the pure stages whatever is called `apply` has a parameter `out`, the only one that it may change."""
    wrong = [
        f"{_label(path)}: {function.name}"
        for folder in PURE
        for path in _modules(PACKAGE / folder)
        for function in _functions(path)
        if function.name.lstrip("_").split("_")[0] == "apply"
        and not {"out", "draft"} & {argument.arg for argument in function.args.args}
    ]

    assert not wrong, "\n".join(wrong)
