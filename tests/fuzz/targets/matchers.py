"""Matchers below matchers: what is not left out has the path and the constraints of its parent."""

from typing import Any, Final

from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.api.gen import matchers_pb2
from gloo_nomad.gateway.matchers import Inheritance, Matcher, apply_parent, check_child, copies, path_text

_TEXTS: Final = st.text(st.characters(codec="utf-8"), max_size=6)
_PATHS: Final = st.sampled_from(["/", "/a", "/a/b", "/A", "//", "", ".*", "/a/.*"]) | _TEXTS
_NAMES: Final = st.sampled_from(["x-a", "x-b", ":method", "X-A", ""]) | _TEXTS
_VALUES: Final = st.fixed_dictionaries({"name": _NAMES}, optional={"value": _TEXTS, "regex": st.booleans()})
_MATCHERS: Final = st.fixed_dictionaries(
    {},
    optional={
        "caseSensitive": st.booleans(),
        "headers": st.lists(_VALUES, max_size=3),
        "queryParameters": st.lists(_VALUES, max_size=3),
        "methods": st.lists(st.sampled_from(["GET", "POST", "get", ""]), max_size=3),
    },
)
_PATH: Final[st.SearchStrategy[dict[str, Any]]] = st.one_of(
    st.just({}),
    st.tuples(st.sampled_from(["prefix", "exact", "regex"]), _PATHS).map(lambda pair: {pair[0]: pair[1]}),
    st.just({"connectMatcher": {}}),
)


def build(parts: tuple[dict[str, Any], dict[str, Any]]) -> Matcher:
    """A matcher out of constraints and a path."""
    return json_format.ParseDict({**parts[0], **parts[1]}, matchers_pb2.Matcher())


_ANY: Final = st.tuples(_MATCHERS, _PATH).map(build)
_PARENTS: Final = st.tuples(_MATCHERS, _PATHS.map(lambda path: {"prefix": path})).map(build)


@given(_PARENTS, _MATCHERS, st.lists(_ANY, max_size=3), st.booleans(), st.booleans())
def check(parent: Matcher, held: dict[str, Any], children: list[Matcher], matchers: bool, path: bool) -> None:
    """Children as they are served are below their parent."""
    inheritance = Inheritance(parent, held=build((held, {})))
    before = [child.SerializeToString(deterministic=True) for child in children]
    out = copies(children)
    apply_parent(inheritance, out, matchers=matchers, path=path)
    assert [child.SerializeToString(deterministic=True) for child in children] == before
    for matcher in out:
        assert all(header in matcher.headers for header in inheritance.held.headers)
        assert all(parameter in matcher.query_parameters for parameter in inheritance.held.query_parameters)
        if not list(check_child(parent, [matcher])):
            assert path_text(matcher).startswith(parent.prefix)
            assert all(header in matcher.headers for header in parent.headers)
            assert set(parent.methods) <= set(matcher.methods)


fuzz = check.hypothesis.fuzz_one_input  # type: ignore[attr-defined]  # what ``given`` adds
