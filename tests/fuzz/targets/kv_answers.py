"""Answers of Consul: a typed value, or a ``BadAnswerError`` of the transport; one bad value spoils only itself."""

import asyncio
from types import SimpleNamespace
from typing import Final

from gloo_nomad.api.kinds import KINDS
from gloo_nomad.clients import consul_answers
from gloo_nomad.clients.consul_answers import KvAnswer
from gloo_nomad.sources.kv_kind import KindReader
from gloo_nomad.sources.kv_prefix import PrefixKeys

_DECODERS: Final = tuple(
    getattr(consul_answers, name) for name in sorted(dir(consul_answers)) if name.startswith("decode_")
)
_PREFIX: Final = "gloo/gateway.solo.io/v1/VirtualService/"
_BAD_ANSWER: Final = (ValueError, KeyError, TypeError, IndexError)
"""What the transport of the client takes for an answer of another shape."""


def fuzz(data: bytes) -> None:
    """The first byte chooses what was asked for, the second one the status and the index."""
    if len(data) < 2:
        return
    decoder, status = _DECODERS[data[0] % len(_DECODERS)], 404 if data[1] == 255 else 200
    response = SimpleNamespace(code=status, headers={"X-Consul-Index": str(data[1])}, content=data[2:])
    try:
        answer = decoder(response)
    except _BAD_ANSWER:
        return
    if isinstance(answer, KvAnswer):
        asyncio.run(_read(answer))


async def _read(answer: KvAnswer) -> None:
    """The keys as virtual services, twice: the second time nothing is new."""
    keys, reader = PrefixKeys(), KindReader("consul", KINDS["VirtualService"], _PREFIX, frozenset())
    first = keys.compare(answer.pairs, trusted=False)
    assert first is not None
    change = await reader.read(first)
    assert change is not None
    assert all((entry.value is None) != (entry.rejection is None) for entry in change.puts.values())
    names = [pair.key for pair in answer.pairs]
    if len(names) == len(set(names)):
        assert keys.compare(answer.pairs, trusted=True) is None
