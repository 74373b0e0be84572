"""What a service sends as its OpenAPI document: a sentence, or templates with nothing of the document in them."""

from tests.properties.test_openapi import check


def fuzz(data: bytes) -> None:
    """The whole input is the document."""
    check(data)
