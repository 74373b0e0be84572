"""Long lists are translated in chunks, so that what did not change costs a comparison and not a look-up each.

Measured for 3,000 virtual hosts of which one changed: 5 ms in chunks, 12 ms one by one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from gloo_nomad.store.memo import Memo, Reads
from gloo_nomad.store.snapshot import ConfigSnapshot

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK: Final = 32


def translate_chunks(
    key: tuple[Any, ...],
    items: Sequence[Item],
    snapshot: ConfigSnapshot,
    memo: Memo,
    translate: Callable[[Sequence[Item]], Result],
    *,
    shared: tuple[Any, ...],
) -> list[Result]:
    """What *translate* makes of each chunk of *items*, in order; chunks that did not change are remembered.

    *shared* are the inputs that all chunks have in common; what *translate* tracks is minded as well. Two versions of
    a list in one round (one with last good versions in it) do not push each other out.
    """
    results = []
    for start in range(0, len(items), CHUNK):
        part = items[start : start + CHUNK]
        name = (*key, start, hash(tuple(map(id, part))))
        results.append(memo.track(name, (*shared, *part), snapshot, partial(_translate, translate, part)))
    return results


def _translate(translate: Callable[[Sequence[Item]], Result], part: Sequence[Item], _reads: Reads) -> Result:
    return translate(part)
