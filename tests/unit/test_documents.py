"""The documents of one text."""

import pytest

from gloo_nomad.api.documents import MAX_DOCUMENTS, MAX_LINES, split_documents
from gloo_nomad.api.mistakes import DocumentError


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
    assert [document.text.strip() for document in split_documents(text)] == documents


def test_line_numbers_are_those_of_the_file() -> None:
    """Each document begins on the line on which it stands."""
    second = split_documents(b"a: 1\nb: 2\n---\nc: 3\n")[1].in_place()

    assert second.split(b"\n").index(b"c: 3") == 3


def test_comments_with_blanks_behind_them() -> None:
    """Lines that end as on Windows cost no more than others, however many comments stand in front."""
    (document,) = split_documents(b"# a licence \r\n" * 5_000 + b"a: 1\r\n")

    assert document.text.endswith(b"a: 1\r\n")


def test_many_small_documents() -> None:
    """Lines above are counted, not kept: neither many documents nor many lines take memory."""
    documents = split_documents(b"---\na\n" * MAX_DOCUMENTS)
    assert sum(len(document.text) for document in documents) < 4 * MAX_DOCUMENTS

    (document,) = split_documents(b"# nothing\n---\n" * MAX_LINES + b"a: 1")
    assert len(document.in_place()) < MAX_LINES + 10


def test_too_many_documents() -> None:
    """The number of documents of a text is bounded."""
    with pytest.raises(DocumentError, match=f"more than {MAX_DOCUMENTS} documents"):
        split_documents(b"---\na: 1\n" * (MAX_DOCUMENTS + 1))
