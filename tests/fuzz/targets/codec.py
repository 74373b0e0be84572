"""Values of Consul KV and files: any bytes are an object that is written and read as itself again, or a reason."""

import json
from typing import Final

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref

_KINDS: Final = sorted(KINDS.values(), key=lambda kind: kind.name)
_REF: Final = Ref("gloo-system", "default")


def fuzz(data: bytes) -> None:
    """The first byte chooses the kind."""
    kind, text = _KINDS[data[0] % len(_KINDS)] if data else _KINDS[0], data[1:]
    decoded = codec.decode(kind, text, _REF)
    if decoded.message is None:
        assert decoded.rejection is not None
        assert "\n" not in decoded.rejection.message
        assert len(decoded.rejection.message) < 2_000, decoded.rejection
        return
    assert decoded.rejection is None
    document = codec.encode(decoded.message, kind=kind)
    for written in (codec.to_yaml(document), json.dumps(document)):
        again = codec.decode(kind, written.encode(), _REF)
        assert again.message == decoded.message, again.rejection
