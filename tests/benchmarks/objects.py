"""Objects for benchmarks, written as users write them: YAML text by Consul KV key."""

from collections.abc import Iterator
from typing import Final

import yaml

ROUTES: Final = 10
GATEWAY_KEY: Final = "gloo/gateway.solo.io/v1/Gateway/gloo-system/gateway-proxy"

GATEWAY: Final = """\
metadata: {name: gateway-proxy, namespace: gloo-system}
bindAddress: "::"
bindPort: 8080
proxyNames: [gateway-proxy]
httpGateway: {}
"""


def virtual_service_key(number: int) -> str:
    """Where the virtual service of that number is stored."""
    return f"gloo/gateway.solo.io/v1/VirtualService/gloo-system/vs-{number:05d}"


def virtual_service(number: int, upstreams: int, marker: str = "v0") -> str:
    """A virtual service of ten routes; *marker* is what a change changes."""
    routes = [
        {
            "matchers": [
                {
                    "prefix": f"/service-{number}/part-{route}",
                    "headers": [{"name": "x-version", "value": "v1"}],
                    "methods": ["GET", "POST"],
                }
            ],
            "routeAction": {
                "single": {
                    "upstream": {"name": f"upstream-{(number + route) % upstreams:04d}", "namespace": "gloo-system"}
                }
            },
            "options": {
                "timeout": "15s",
                "prefixRewrite": f"/part-{route}",
                "retries": {"retryOn": "5xx,connect-failure", "numRetries": 3, "perTryTimeout": "2s"},
                "headerManipulation": {
                    "requestHeadersToAdd": [{"header": {"key": "x-marker", "value": f"{marker}-{route}"}}]
                },
            },
        }
        for route in range(ROUTES)
    ]
    document = {
        "metadata": {"name": f"vs-{number:05d}", "namespace": "gloo-system"},
        "virtualHost": {
            "domains": [f"host-{number:05d}.example.com"],
            "routes": routes,
            "options": {
                "cors": {"allowOrigin": ["https://example.com"], "allowMethods": ["GET", "POST"], "maxAge": "86400"}
            },
        },
    }
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)


def upstream(number: int) -> str:
    """A static upstream."""
    return (
        f"metadata: {{name: upstream-{number:04d}, namespace: gloo-system}}\n"
        f"static: {{hosts: [{{addr: 127.0.0.1, port: {20000 + number}}}]}}\n"
    )


def configuration(virtual_services: int, upstreams: int) -> Iterator[tuple[str, str]]:
    """Everything to begin with, key by key."""
    yield GATEWAY_KEY, GATEWAY
    for number in range(upstreams):
        yield f"gloo/gloo.solo.io/v1/Upstream/gloo-system/upstream-{number:04d}", upstream(number)
    for number in range(virtual_services):
        yield virtual_service_key(number), virtual_service(number, upstreams)
