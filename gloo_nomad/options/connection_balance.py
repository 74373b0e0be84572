"""Spreads connections evenly over Envoy's threads, for few clients that stay connected.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/intro/threading_model#listener-connection-balancing
"""

from typing import Any

from gloo_nomad.api.gen import listener_options_pb2
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.reports import Findings, error

FIELDS: Claims = {"gloo.solo.io.ListenerOptions": ("connection_balance_config",)}
READS: Claims = {"gloo.solo.io.ConnectionBalanceConfig": EVERY}


def apply_listener(options: listener_options_pb2.ListenerOptions, out: Any, context: ListenerContext) -> Findings:
    if not options.HasField("connection_balance_config"):
        return ()
    if not options.connection_balance_config.HasField("exact_balance"):
        return (error("connectionBalanceConfig", "does not say how to balance; write exactBalance: {}"),)
    out.connection_balance_config.exact_balance.SetInParent()
    return ()
