"""Instances of services, as Consul and Nomad know them. They are stored beside the objects, as kinds of their own."""

from dataclasses import dataclass
from typing import Final

CONSUL_SERVICE: Final = "consul.Service"
"""Kind of a Consul service's instances; a Ref's namespace is the datacenter ("" for the agent's own)."""
NOMAD_SERVICE: Final = "nomad.Service"
"""Kind of a Nomad service's instances; a Ref's namespace is Nomad's namespace."""


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One healthy instance of a service."""

    address: str
    """An IP address or a host name."""
    port: int
    id: str
    tags: tuple[str, ...] = ()
    datacenter: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ServiceInstances:
    """All healthy instances of one service, sorted, so that equal content is equal."""

    instances: tuple[Instance, ...] = ()
