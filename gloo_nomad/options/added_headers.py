"""Headers to add and to remove, as several options write them: checked, and in Envoy's form.

Values are format strings (``%REQ(x-id)%``, see ``acceptance.formats``); a Secret's headers are taken literally.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3 import base_pb2

from gloo_nomad.acceptance.formats import format_fault
from gloo_nomad.acceptance.headers import change_fault, value_fault
from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.refs import Ref
from gloo_nomad.options.hooks import Context
from gloo_nomad.reports import Finding, error
from gloo_nomad.settings.own import own_value

_MAX_ENTRIES: Final = 1000
_SAME_NAMESPACE: Final = "headerSecretNamespaceMatches"


def build_added(entries: Any, path: str, context: Context, findings: list[Finding]) -> Iterator[Any]:
    """Envoy's form of headers to add; *findings* grows by what is wrong with them."""
    if len(entries) > _MAX_ENTRIES:
        findings.append(error(path, f"may have at most {_MAX_ENTRIES} entries"))
        return
    for index, entry in enumerate(entries):
        for key, value, fault in _headers_of(entry, context):
            if fault:
                findings.append(fault.under(f"{path}[{index}]"))
            else:
                yield _build_entry(key, value, entry)


def check_removed(names: Iterable[str], path: str) -> Iterator[Finding]:
    """What is wrong with names of headers to remove."""
    for index, name in enumerate(names):
        if fault := change_fault(name):
            yield error(f"{path}[{index}]", fault)


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
    if own_value(context.settings, _SAME_NAMESPACE) and context.upstream_namespaces() != {ref.namespace}:
        text = "is not in the namespace of each Upstream that gets it, which the gateway's settings ask for"
        yield "", "", error("headerSecretRef", text)
        return
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
