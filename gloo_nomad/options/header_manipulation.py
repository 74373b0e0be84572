"""Adds and removes headers of requests and responses, on a virtual host, a route, or one destination of several.

Values are format strings (``%REQ(x-id)%``, see ``acceptance.formats``); a Secret's headers are taken literally.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#custom-request-response-headers
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import base_pb2

from gloo_nomad.acceptance.formats import format_fault
from gloo_nomad.acceptance.headers import change_fault, value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import (
    headers_pb2,
    route_options_pb2,
    virtual_host_options_pb2,
    weighted_destination_options_pb2,
)
from gloo_nomad.api.refs import Ref
from gloo_nomad.options.hooks import EVERY, Claims, Context, RouteContext, VirtualHostContext
from gloo_nomad.reports import Finding, Findings, error, is_rejected

_PATH: Final = "headerManipulation"
_MAX_ENTRIES: Final = 1000

FIELDS: Claims = {
    "gloo.solo.io.RouteOptions": ("header_manipulation",),
    "gloo.solo.io.VirtualHostOptions": ("header_manipulation",),
    "gloo.solo.io.WeightedDestinationOptions": ("header_manipulation",),
}
READS: Claims = {
    "headers.options.gloo.solo.io.HeaderManipulation": EVERY,
    "headers.options.gloo.solo.io.HeaderValueOption": EVERY,
    "headers.options.gloo.solo.io.HeaderValue": EVERY,
    "solo.io.envoy.api.v2.core.HeaderValueOption": EVERY,
    "solo.io.envoy.api.v2.core.HeaderValue": EVERY,
}


def apply_route(options: route_options_pb2.RouteOptions, out: Any, context: RouteContext) -> Findings:
    return _apply(options, out, context)


def apply_virtual_host(
    options: virtual_host_options_pb2.VirtualHostOptions, out: Any, context: VirtualHostContext
) -> Findings:
    return _apply(options, out, context)


def apply_destination(
    options: weighted_destination_options_pb2.WeightedDestinationOptions, out: Any, context: RouteContext
) -> Findings:
    return _apply(options, out, context)


def _apply(options: Any, out: Any, context: Context) -> Findings:
    if not options.HasField("header_manipulation"):
        return ()
    wanted: headers_pb2.HeaderManipulation = options.header_manipulation
    findings: list[Finding] = []
    added = {
        side: [*_build_added(getattr(wanted, f"{side}_headers_to_add"), f"{side}HeadersToAdd", context, findings)]
        for side in ("request", "response")
    }
    findings += _check_removed(wanted.request_headers_to_remove, "requestHeadersToRemove")
    findings += _check_removed(wanted.response_headers_to_remove, "responseHeadersToRemove")
    if not is_rejected(findings):
        out.request_headers_to_add.extend(added["request"])
        out.response_headers_to_add.extend(added["response"])
        out.request_headers_to_remove.extend(wanted.request_headers_to_remove)
        out.response_headers_to_remove.extend(wanted.response_headers_to_remove)
    return findings


def _build_added(entries: Any, name: str, context: Context, findings: list[Finding]) -> Iterator[Any]:
    """Envoy's form of headers to add; *findings* grows by what is wrong with them."""
    if len(entries) > _MAX_ENTRIES:
        findings.append(error(f"{_PATH}.{name}", f"may have at most {_MAX_ENTRIES} entries"))
        return
    for index, entry in enumerate(entries):
        path = f"{_PATH}.{name}[{index}]"
        for key, value, fault in _headers_of(entry, context):
            if fault:
                findings.append(fault.under(path))
            else:
                yield _build_entry(key, value, entry)


def _headers_of(entry: Any, context: Context) -> Iterator[tuple[str, str, Finding | None]]:
    """Name and value of each header that an entry stands for, or what is wrong."""
    if not entry.HasField("header") and hasattr(entry, "header_secret_ref") and entry.HasField("header_secret_ref"):
        yield from _headers_of_secret(Ref(entry.header_secret_ref.namespace, entry.header_secret_ref.name), context)
    elif not entry.HasField("header"):
        yield "", "", error("header", "is required")
    else:
        yield entry.header.key, entry.header.value, _header_fault(entry.header.key, entry.header.value)


def _header_fault(key: str, value: str) -> Finding | None:
    if fault := change_fault(key):
        return error("header.key", fault)
    if fault := value_fault(value) or format_fault(value):
        return error("header.value", fault)
    return None


def _headers_of_secret(ref: Ref, context: Context) -> Iterator[tuple[str, str, Finding | None]]:
    secret = context.secret(ref)
    if secret is None:
        yield "", "", error("headerSecretRef", f"there is no Secret {quote(str(ref))}")
        return
    if secret.WhichOneof("kind") != "header":
        yield "", "", error("headerSecretRef", f"the Secret {ref} has no header entries; it is of another kind")
        return
    for key, value in sorted(secret.header.headers.items()):
        if fault := change_fault(key) or value_fault(value):
            yield key, "", error("headerSecretRef", f"in the Secret {ref}: {fault}")
        else:
            yield key, value.replace("%", "%%"), None


def _build_entry(key: str, value: str, entry: Any) -> Any:
    append = not entry.HasField("append") or entry.append.value
    action = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=key, value=value),
        append_action=action if append else base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _check_removed(names: Iterable[str], field: str) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if fault := change_fault(name):
            yield error(f"{_PATH}.{field}[{index}]", fault)
