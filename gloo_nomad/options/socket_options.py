"""Options of the listening socket, by the numbers that they have where Envoy runs (``man 7 socket``, ``man 7 tcp``).

Which numbers exist shows only there: Envoy refuses the listener if the system refuses the option.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/socket_option.proto
"""

from collections.abc import Iterator
from typing import Any, Final

from gloo_nomad.api.gen import envoy_health_check_pb2, listener_options_pb2
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Finding, Findings, error

FIELDS: Claims = {"gloo.solo.io.ListenerOptions": ("socket_options",)}
READS: Claims = {"solo.io.envoy.api.v2.core.SocketOption": EVERY}

INT_RANGE: Final = range(-(2**31), 2**31)
"""What a C ``int`` holds: Envoy hands the lower half of anything larger to the system."""
MAX_BYTES: Final = 4096


def apply_listener(options: listener_options_pb2.ListenerOptions, out: Any, context: ListenerContext) -> Findings:
    findings: list[Finding] = []
    for index, option in enumerate(options.socket_options):
        faults = [finding.under(f"socketOptions[{index}]") for finding in _check(option)]
        findings += faults
        if not faults:
            _apply(option, out.socket_options.add())
    return findings


def _check(option: envoy_health_check_pb2.SocketOption) -> Iterator[Finding]:
    for name in ("level", "name"):
        if getattr(option, name) not in INT_RANGE:
            yield error(name, "is not a number of the system; it must fit into 32 bits")
    match option.WhichOneof("value"):
        case "int_value":
            if option.int_value not in INT_RANGE:
                yield error("intValue", "must fit into 32 bits, with its sign")
        case "buf_value":
            if len(option.buf_value) > MAX_BYTES:
                yield error("bufValue", f"must have at most {MAX_BYTES} bytes")
        case _:
            yield error("", "has no value; set intValue or bufValue")
    if option.state not in envoy_health_check_pb2.SocketOption.SocketState.values():
        yield error("state", "must be STATE_PREBIND, STATE_BOUND or STATE_LISTENING")


def _apply(option: envoy_health_check_pb2.SocketOption, out: Any) -> None:
    out.description, out.level, out.name = option.description, option.level, option.name
    if option.HasField("int_value"):
        out.int_value = option.int_value
    else:
        out.buf_value = option.buf_value
    out.state = int(option.state)
