"""Inputs made of those that are kept: cut, doubled, mixed, and with other bytes in them."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

MOST_BYTES: Final = 16_384
_INTERESTING: Final = (
    b"\x00",
    b"\xff",
    b"\n",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"\\",
    b"%2f",
    b"//",
    b"..",
)


def mutations(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """For ever; the same ones for the same *seed*."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            _change(chance, seeds, data)
        yield bytes(data[:MOST_BYTES])


def _change(chance: random.Random, seeds: Sequence[bytes], out: bytearray) -> None:
    at = chance.randint(0, len(out))
    end = min(len(out), at + chance.randint(1, 16))
    match chance.randrange(6):
        case 0:
            out[at:end] = b""
        case 1:
            out[at:at] = out[at:end] * chance.randint(1, 50)
        case 2:
            out[at:end] = chance.randbytes(end - at)
        case 3:
            out[at:at] = chance.choice(_INTERESTING)
        case 4:
            other = chance.choice(seeds)
            start = chance.randint(0, len(other))
            out[at:end] = other[start : start + chance.randint(1, 64)]
        case _:
            out[at:end] = bytes(byte ^ (1 << chance.randrange(8)) for byte in out[at:end])
