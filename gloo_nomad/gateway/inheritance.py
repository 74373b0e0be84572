"""Options that a route or virtual host does not have are filled from other objects and from delegating routes.

Shallow, as https://docs.solo.io/gloo-edge/latest/guides/traffic_management/destination_types/delegation/ describes it
for delegation: an option is one top-level field or one choice (oneof), and is taken as a whole or not at all. What is
present counts as set, even ``{}``, 0 or false; only empty lists and maps count as unset.
"""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message

from gloo_nomad.api.gen import core_pb2, gateway_pb2
from gloo_nomad.api.kinds import Kind
from gloo_nomad.api.refs import ObjectRef, Ref
from gloo_nomad.proxies import OptionOrigins
from gloo_nomad.reports import Finding, warning
from gloo_nomad.store.memo import Reads

FIELDS: Final = {
    "gateway.solo.io.DelegateOptionsRefs": ("delegate_options",),
    "gateway.solo.io.RouteOption": ("metadata", "options"),
    "gateway.solo.io.VirtualHostOption": ("metadata", "options"),
}

_FORWARDING: Final = frozenset(
    {
        "prefix_rewrite",
        "regex_rewrite",
        "timeout",
        "idle_timeout",
        "max_stream_duration",
        "retries",
        "upgrades",
        "shadowing",
        "lb_hash",
        "host_rewrite",
        "auto_host_rewrite",
        "host_rewrite_path_regex",
        "host_rewrite_header",
        "append_x_forwarded_host",
        "ratelimit_basic",
        "rate_limit_configs",
        "rate_limit_early_configs",
        "rate_limit_regular_configs",
    }
)
"""Route options that mean something only where a request is forwarded."""
_RATE_LIMITS: Final = frozenset({"ratelimit", "ratelimit_early", "ratelimit_regular"})
"""Route options of which only a local limit means something where a request is not forwarded."""


def apply_unset(source: Message, out: Message) -> tuple[str, ...]:
    """Fills the options that *out* lacks from *source*; answers the camelCase names of those it filled."""
    filled = []
    for descriptor, value in source.ListFields():
        if _has(out, descriptor):
            continue
        if descriptor.message_type is not None or descriptor.is_repeated:
            getattr(out, descriptor.name).MergeFrom(value)
            if not descriptor.is_repeated:
                getattr(out, descriptor.name).SetInParent()
        else:
            setattr(out, descriptor.name, value)
        filled.append(descriptor.camelcase_name)
    return tuple(filled)


def _has(message: Any, descriptor: Any) -> bool:
    if descriptor.containing_oneof is not None:
        return message.WhichOneof(descriptor.containing_oneof.name) is not None
    if descriptor.is_repeated:
        return len(getattr(message, descriptor.name)) > 0
    return bool(message.HasField(descriptor.name))


def apply_references(
    refs: gateway_pb2.DelegateOptionsRefs, kind: Kind, reads: Reads, out: Any
) -> Iterator[tuple[ObjectRef, tuple[str, ...]] | Finding]:
    """Fills options from the named objects, the first one first; yields each with what it gave.

    An object that does not exist is a warning, so that objects may be stored in any order.
    """
    for index, ref in enumerate(refs.delegate_options):
        found = reads.get(kind.name, Ref(ref.namespace, ref.name))
        if found is None:
            yield _missing(kind, ref, index)
        else:
            filled = apply_unset(found.options, out)
            yield kind.object_ref(Ref(ref.namespace, ref.name)), filled


def _missing(kind: Kind, ref: core_pb2.ResourceRef, index: int) -> Finding:
    return warning(
        f"optionsConfigRefs.delegateOptions[{index}]",
        f"{kind.name} {ref.namespace}.{ref.name} missing; its options are left out until it exists",
    )


def inheritable(options: Message, *, forwards: bool) -> Message:
    """What a child takes over: without options for forwarding where the child redirects or answers itself.

    The reference rejects such a child, although it says nothing wrong itself; leaving out what cannot apply to it is
    what its author means. An option for forwarding that the child has itself stays, and is an error there.
    """
    if forwards:
        return options
    kept = type(options)()
    kept.CopyFrom(options)
    for descriptor, value in options.ListFields():
        if descriptor.name in _FORWARDING:
            kept.ClearField(descriptor.name)
        elif descriptor.name in _RATE_LIMITS:
            kept.ClearField(descriptor.name)
            if value.HasField("local_ratelimit"):
                getattr(kept, descriptor.name).local_ratelimit.CopyFrom(value.local_ratelimit)
    return kept


def origins_of(filled: tuple[str, ...], source: ObjectRef, path: str) -> dict[str, tuple[ObjectRef, str]]:
    """Options that came from one place, for ``proxies.RouteOrigin``."""
    return dict.fromkeys(filled, (source, path))


def inherited_origins(
    filled: tuple[str, ...], above: OptionOrigins, source: ObjectRef, path: str
) -> dict[str, tuple[ObjectRef, str]]:
    """Options that came from a delegating route, which may itself have them from elsewhere."""
    return {name: above.get(name, (source, path)) for name in filled}
