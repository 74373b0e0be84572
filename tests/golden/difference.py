"""Where two documents differ: paths and new values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Difference = tuple[str, Any]


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Each path whose value differs, with the new value; None for what is gone. Another type is another value."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.get("@type") == after.get("@type"):
        yield from _compare_mappings(before, after, path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _compare_lists(before, after, path)
    else:
        yield path, after


def _compare_mappings(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Difference]:
    for key in sorted({*before, *after}):
        here = f"{path}.{key}" if path else key
        if key not in after:
            yield here, None
        elif key not in before:
            yield here, after[key]
        else:
            yield from differences(before[key], after[key], here)


def _compare_lists(before: Sequence[Any], after: Sequence[Any], path: str) -> Iterator[Difference]:
    """By position; when entries came or went, by name if they have one (filters, virtual hosts)."""
    if len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}[{index}]")
    elif (old_named := _named(before)) is not None and (new_named := _named(after)) is not None:
        for name in sorted({*old_named, *new_named}):
            yield from differences(old_named.get(name), new_named.get(name), f"{path}[{name}]")
    else:
        yield path, list(after)


def _named(entries: Sequence[Any]) -> dict[str, Any] | None:
    if not all(isinstance(entry, Mapping) and "name" in entry for entry in entries):
        return None
    named = {entry["name"]: entry for entry in entries}
    return named if len(named) == len(entries) else None
