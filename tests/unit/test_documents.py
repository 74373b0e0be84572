"""The documents of one text."""

import pytest

from gloo_nomad.sources.documents import split_documents


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        pytest.param(b"a: 1\n", [b"a: 1"], id="one"),
        pytest.param(b"---\na: 1\n", [b"a: 1"], id="mark in front"),
        pytest.param(b"a: 1\n---\nb: 2\n", [b"a: 1", b"b: 2"], id="two"),
        pytest.param(b"a: 1\r\n---\r\nb: 2", [b"a: 1", b"b: 2"], id="windows"),
        pytest.param(b"\xef\xbb\xbf---\na: 1", [b"a: 1"], id="byte order mark"),
        pytest.param(b"# licence\n---\n# nothing\n---\na: 1", [b"a: 1"], id="comments only"),
        pytest.param(b"%YAML 1.2\n---\na: 1\n...\n", [b"a: 1"], id="directive and end"),
        pytest.param(b"a: '\n ---\n '\n", [b"a: '\n ---\n '"], id="not in the first column"),
        pytest.param(b"a: ----\n-----\n", [b"a: ----\n-----"], id="longer rulers are text"),
        pytest.param(b"--- {a: 1}\n--- {b: 2}", [b"{a: 1}", b"{b: 2}"], id="on the line of the mark"),
        pytest.param(b"", [b""], id="empty"),
        pytest.param(b"# only a comment\n", [b""], id="nothing"),
    ],
)
def test_split(text: bytes, documents: list[bytes]) -> None:
    """A text is split where YAML says so, and nowhere else."""
    assert [document.strip() for document in split_documents(text)] == documents


def test_line_numbers_are_those_of_the_file() -> None:
    """Each document begins on the line on which it stands."""
    second = split_documents(b"a: 1\nb: 2\n---\nc: 3\n")[1]

    assert second.split(b"\n").index(b"c: 3") == 3
