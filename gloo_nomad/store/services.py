"""Instances of services, as Consul and Nomad know them. They are stored beside the objects, as kinds of their own."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

CONSUL_SERVICE: Final = "consul.Service"
"""Kind of a Consul service's instances; a Ref's namespace is the text of a ``Place``."""
NOMAD_SERVICE: Final = "nomad.Service"
"""Kind of a Nomad service's instances; a Ref's namespace is Nomad's namespace."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in Consul a service is, and how it is to be read there. Its text is the datacenter in the usual case."""

    datacenter: str = ""
    """Empty for the agent's own."""
    namespace: str = ""
    """Consul Enterprise only."""
    partition: str = ""
    """Consul Enterprise only."""
    reading: str = ""
    """``consistent``, ``cached``, or empty for a bounded stale read."""

    def __str__(self) -> str:
        parts = (self.datacenter, self.namespace, self.partition, self.reading)
        return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts).rstrip("/")


@lru_cache(maxsize=4096)
def parse_place(text: str) -> Place:
    """What ``str(place)`` wrote."""
    return Place(*(part.replace("%2F", "/").replace("%25", "%") for part in text.split("/")))


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One instance of a service that may get requests."""

    address: str
    """An IP address, or a host name that has not been found yet."""
    port: int
    id: str
    tags: tuple[str, ...] = ()
    datacenter: str = ""
    weight: int = 1
    host_name: str = ""
    """The name that led to the address, if the instance is registered with a name."""
    degraded: bool = False
    """Whether it gets requests only where too few others are healthy."""
    ports: tuple[tuple[str, int], ...] = ()
    """Ports with names, sorted; ``port`` is the one to use if none is asked for."""


@dataclass(frozen=True, slots=True)
class ServiceInstances:
    """All instances of one service in one place that may get requests, sorted, so that equal content is equal."""

    instances: tuple[Instance, ...] = ()
    is_near: bool = True
    """Whether they go before those of other places, which get requests when too few of these are healthy."""
