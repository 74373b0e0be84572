"""Long lists are translated in chunks, so that what did not change costs a comparison and not a look-up each.

Chunks are in blocks, and what becomes of a block is put together of what became of its chunks: a change costs its
chunk, its block, and a look at the other blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from gloo_nomad.store.memo import Memo, Reads
from gloo_nomad.store.snapshot import ConfigSnapshot

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK: Final = 32
BLOCK: Final = 32 * CHUNK


@dataclass(frozen=True, slots=True)
class Steps(Generic[Item, Result]):
    """What is made of some items, and of what was made of several such parts of them."""

    translate: Callable[[Sequence[Item]], Result]
    join: Callable[[Sequence[Result]], Result]


def translate_chunks(
    key: tuple[Any, ...],
    items: Sequence[Item],
    snapshot: ConfigSnapshot,
    memo: Memo,
    steps: Steps[Item, Result],
    *,
    shared: tuple[Any, ...],
) -> list[Result]:
    """What the steps make of each block of *items*, in order; what did not change is remembered.

    *shared* are the inputs that all chunks have in common; what the steps track is minded as well. Two lists of one
    round need two keys, else they push each other out.
    """

    def block(start: int, part: Sequence[Item], _reads: Reads) -> Result:
        return steps.join(
            [keep("chunk", place, place + CHUNK, chunk) for place in range(start, start + len(part), CHUNK)]
        )

    def chunk(_start: int, part: Sequence[Item], _reads: Reads) -> Result:
        return steps.translate(part)

    def keep(level: str, start: int, end: int, compute: Callable[[int, Sequence[Item], Reads], Result]) -> Result:
        part = items[start:end]
        return memo.track((*key, level, start), (*shared, *part), snapshot, partial(compute, start, part))

    return [keep("block", start, start + BLOCK, block) for start in range(0, len(items), BLOCK)]
