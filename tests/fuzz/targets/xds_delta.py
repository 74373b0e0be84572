"""A delta stream: any history leads a client to what is published; any request is served or ends the stream."""

from typing import Final

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from gloo_nomad.xds.delta import DeltaSession
from gloo_nomad.xds.session import ProtocolViolationError
from tests.properties.test_xds_model import DeltaModel
from tests.xds_published import BAD, NAMES, TYPES, Published

_BODIES: Final = ("v1", "v2", "v3", BAD)


def fuzz(data: bytes) -> None:
    """An odd first byte: requests of any bytes; an even one: a history of a well-behaved client."""
    if data and data[0] % 2:
        _send_requests(data[1:])
    else:
        _live(data[1:])


def _send_requests(data: bytes) -> None:
    published = Published()
    published.publish({type_url: dict.fromkeys(NAMES, "v1") for type_url in TYPES})
    session = DeltaSession(published.view, node_id="n")
    for payload in data.split(b"\xff\xfe"):
        try:
            request = discovery_pb2.DeltaDiscoveryRequest.FromString(payload)
            session.receive(request, published.now)
        except (DecodeError, ProtocolViolationError):
            return
        published.now += 1.0
        for _ in range(100):
            if session.next_response(published.now) is None:
                break
        else:
            raise AssertionError("there is no end of responses")


def _live(data: bytes) -> None:
    published = Published()
    client = DeltaModel(published)
    steps = iter(data)
    for step in steps:
        argument = next(steps, 0)
        _step(step % 8, argument, client, published)
    if published.view.published:
        _settle(client)
        client.check_settled()


def _step(step: int, argument: int, client: DeltaModel, published: Published) -> None:
    type_url, names = TYPES[argument % len(TYPES)], [name for bit, name in enumerate(NAMES) if argument >> bit & 1]
    texts = {name: _BODIES[(argument + index) % len(_BODIES)] for index, name in enumerate(names)}
    if step == 0:
        published.publish({type_url: texts})
    elif step == 1:
        published.publish_type(type_url, texts)
    elif step == 2:
        client.ask(type_url, [*names, "*"] if argument & 128 else names, [])
    elif step == 3 and type_url in client.names:
        client.ask(type_url, [], [*names, "*"] if argument & 128 else names)
    elif step == 4:
        client.transmit()
    elif step == 5 and client.inbox:
        client.read()
    elif step == 6:
        published.now += argument / 16
    elif step == 7:
        client.reconnect()


def _settle(client: DeltaModel) -> None:
    for _ in range(1_000):
        if client.inbox:
            client.read()
        elif not client.transmit():
            wake_at = client.session.wake_at(client.published.now)
            if wake_at is None:
                return
            client.published.now = wake_at
    raise AssertionError("there is no end of responses")
