"""Instances of Consul's services, as a source of a test's own says them."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.demo.consul import ConsulAgent
from gloo_nomad.sources.consul_services import ConsulServicesSource
from gloo_nomad.store.services import CONSUL_SERVICE, Instance
from tests.source_listener import Listener

_numbers = itertools.count(1)


@contextmanager
def new_service(consul: ConsulAgent) -> Iterator[str]:
    """A name of a service that no other test has; its instances are taken away afterwards."""
    name = f"service-{next(_numbers)}"
    yield name
    for entry in consul.request("GET", f"catalog/service/{name}"):
        consul.deregister(entry["ServiceID"])


@asynccontextmanager
async def listening(port: int, **options: Any) -> AsyncIterator[tuple[ConsulServicesSource, Listener]]:
    """A source of its own on that port, and a listener on it."""
    client = ConsulClient(ConsulOptions(parse_address(f"127.0.0.1:{port}", 8500)))
    source = ConsulServicesSource(client, **options)
    async with Listener(source) as listener:
        yield source, listener
    await client.close()


def instances_of(
    listener: Listener, name: str, place: str = "", *, kind: str = CONSUL_SERVICE
) -> tuple[Instance, ...] | None:
    """The served instances; None if nothing is known of the service."""
    found = listener.store.snapshot.of(kind).get(Ref(place, name))
    return None if found is None else found.instances


def ports_of(listener: Listener, name: str, place: str = "", *, kind: str = CONSUL_SERVICE) -> list[int] | None:
    """The ports of the served instances."""
    found = instances_of(listener, name, place, kind=kind)
    return None if found is None else [instance.port for instance in found]
