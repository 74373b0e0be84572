"""Regular expressions: RE2's own answer, and how large they may be."""

import pytest

from gloo_nomad.acceptance.headers import change_fault, name_fault, value_fault
from gloo_nomad.acceptance.regexes import MAX_PROGRAM_SIZE, program_size, regex_fault, substitution_fault
from gloo_nomad.messages import regex_matcher


@pytest.mark.parametrize("pattern", ["/a", r"/a/\d+", "[[:alpha:]]+", "(?P<name>a)", "(?i)a", "é+", r"\pN"])
def test_expressions_of_re2_are_taken(pattern: str) -> None:
    """What RE2 compiles is taken."""
    assert regex_fault(pattern) == ""


@pytest.mark.parametrize("pattern", ["", "(", "[", "a**", "(?=a)", r"(a)\1", "a{1001}", "((a{99}){99}){99}", "*"])
def test_what_re2_does_not_know_is_refused(pattern: str) -> None:
    """Look-around, back-references, open brackets and large repetitions are refused with a reason."""
    assert regex_fault(pattern)


def test_an_expression_may_be_large_but_not_huge() -> None:
    """Alternatives by the hundred work; what would hurt Envoy does not."""
    assert regex_fault("|".join(f"/product/{number}" for number in range(300))) == ""
    assert "too complex" in regex_fault("a" * (MAX_PROGRAM_SIZE + 1))


def test_only_a_large_expression_says_how_large_it_may_be() -> None:
    """Envoy's own limit is 100 steps; a matcher beyond it raises the limit, a small one says nothing."""
    assert not regex_matcher("/a").HasField("google_re2")
    assert regex_matcher("a" * 200).google_re2.max_program_size.value == MAX_PROGRAM_SIZE
    assert program_size("(") == 0


@pytest.mark.parametrize(
    ("substitution", "works"),
    [(r"/\1/\2", True), (r"\0", True), (r"\\", True), (r"\\3", True), (r"\3", False), ("\\", False), (r"\x", False)],
)
def test_substitutions_ask_for_groups_that_exist(substitution: str, works: bool) -> None:
    r"""`\1` needs a first group; a backslash is written twice."""
    assert (substitution_fault("(a)(b)", substitution) == "") is works


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "ä", ":path", "x" * 20_000])
def test_names_of_headers(name: str) -> None:
    """Only tokens of RFC 9110 are names."""
    assert name_fault(name)
    assert name_fault("x-Request.id_1") == ""


def test_pseudo_headers_and_host_cannot_be_changed() -> None:
    """Envoy forbids it, in any case."""
    assert all(change_fault(name) for name in (":path", "host", "Host", "HOST"))
    assert change_fault("x-host") == ""
    assert name_fault(":path", pseudo=True) == ""


def test_values_of_headers_have_no_control_characters() -> None:
    """Tabs and text beyond ASCII are fine, line breaks are not."""
    assert value_fault("a\tb é") == ""
    assert all(value_fault(value) for value in ("a\nb", "a\rb", "\0", "\x7f", "a" * 16_385))
