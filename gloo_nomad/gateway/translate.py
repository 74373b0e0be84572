"""The gateway stage: all gateways, virtual services and route tables to proxies.

It reads objects of the kinds below and nothing else, so that a change of an upstream or a secret costs nothing here.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gloo_nomad.api.gen import gateway_pb2, settings_pb2
from gloo_nomad.api.kinds import (
    GATEWAY,
    MATCHABLE_HTTP_GATEWAY,
    MATCHABLE_TCP_GATEWAY,
    PROXY,
    ROUTE_OPTION,
    ROUTE_TABLE,
    VIRTUAL_HOST_OPTION,
    VIRTUAL_SERVICE,
)
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.gateway.addresses import Bound, find_clashes
from gloo_nomad.gateway.listeners import translate_listener
from gloo_nomad.gateway.names import listener_name
from gloo_nomad.gateway.scene import Scene, World
from gloo_nomad.gateway.services import Conversions
from gloo_nomad.gateway.stored import translate_stored
from gloo_nomad.proxies import Proxy
from gloo_nomad.reports import Problem, Problems
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.snapshot import ConfigSnapshot

DEFAULT_NAMESPACE: Final = "gloo-system"
DEFAULT_PROXY: Final = "gateway-proxy"
_READ: Final = tuple(
    kind.name
    for kind in (
        GATEWAY,
        VIRTUAL_SERVICE,
        ROUTE_TABLE,
        ROUTE_OPTION,
        VIRTUAL_HOST_OPTION,
        MATCHABLE_HTTP_GATEWAY,
        MATCHABLE_TCP_GATEWAY,
    )
)
_AGED: Final = (GATEWAY.name, VIRTUAL_SERVICE.name)

Result = tuple[tuple[Proxy, ...], Problems]


def translate_gateways(snapshot: ConfigSnapshot, settings: settings_pb2.Settings, memo: Memo) -> Result:
    """All proxies, sorted by name, and what is wrong with the objects that they are made of.

    What did not change is the same object as in the last call with that memory.
    """
    own = memo.get(("gateway", "memory"), (), Memo)
    if settings.gateway.HasField("enable_gateway_controller") and not settings.gateway.enable_gateway_controller.value:
        return memo.get(
            ("gateway", "stored"),
            (settings, snapshot.of(PROXY.name)),
            lambda: translate_stored(snapshot, write_namespace(settings), own),
        )
    inputs = (
        settings,
        *(snapshot.of(kind) for kind in _READ),
        *(snapshot.created.get(kind) for kind in _AGED),
        *(snapshot.claimed.get(kind) for kind in _AGED),
    )
    return memo.get(("gateway", "result"), inputs, lambda: _translate(snapshot, settings, own))


def _translate(snapshot: ConfigSnapshot, settings: settings_pb2.Settings, memo: Memo) -> Result:
    conversions = memo.get(("services",), (), Conversions)
    world = World(snapshot, settings, memo, conversions.translate(snapshot, settings))
    problems = list(conversions.problems())
    proxies = tuple(
        _translate_proxy(Ref(write_namespace(settings), name), gateways, world, problems)
        for name, gateways in sorted(_by_proxy(_gateways(snapshot, settings)).items())
    )
    result = world.keep("proxies", proxies), world.keep("problems", tuple(dict.fromkeys(problems)))
    memo.sweep()
    return result


def write_namespace(settings: settings_pb2.Settings) -> str:
    """Where proxies are, and gateways are read from."""
    return settings.discovery_namespace or DEFAULT_NAMESPACE


def _gateways(snapshot: ConfigSnapshot, settings: settings_pb2.Settings) -> Iterable[tuple[Ref, gateway_pb2.Gateway]]:
    everywhere = settings.gateway.read_gateways_from_all_namespaces
    namespace = write_namespace(settings)
    for ref, gateway in snapshot.of(GATEWAY.name).items():
        if everywhere or ref.namespace == namespace:
            yield ref, gateway


def _by_proxy(
    gateways: Iterable[tuple[Ref, gateway_pb2.Gateway]],
) -> Mapping[str, list[tuple[ObjectRef, gateway_pb2.Gateway]]]:
    found: dict[str, list[tuple[ObjectRef, gateway_pb2.Gateway]]] = {}
    for ref, gateway in gateways:
        for name in sorted(set(gateway.proxy_names)) or [DEFAULT_PROXY]:
            found.setdefault(name, []).append((GATEWAY.object_ref(ref), gateway))
    return found


def _translate_proxy(
    ref: Ref, gateways: list[tuple[ObjectRef, gateway_pb2.Gateway]], world: World, out: list[Problem]
) -> Proxy:
    bound = [Bound(source, gateway.bind_address, gateway.bind_port) for source, gateway in gateways]
    lost, problems = find_clashes(bound, world.created(GATEWAY.name), world.claimed(GATEWAY.name))
    out.extend(problems)
    listeners = []
    for source, gateway in gateways:
        if source in lost:
            continue
        name = listener_name(gateway.bind_address, gateway.bind_port)
        listener = translate_listener(Scene(world, ref.name, gateway, source, name, out))
        if listener is not None:
            listeners.append(listener)
    listeners.sort(key=lambda listener: listener.name)
    return world.memo.get(("proxy", ref), tuple(listeners), lambda: Proxy(ref, tuple(listeners)))
