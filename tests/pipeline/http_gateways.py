"""An Envoy with a gateway for each group of options of HTTP gateways, for tests of their effects."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from gloo_nomad.demo.echo import start_echo
from gloo_nomad.demo.envoy import Envoy, start_envoy
from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import free_port
from tests.envoy_validate import build_bootstrap
from tests.golden.frame import NAMESPACE, fill_frame
from tests.golden.world import ROLE, run_pipeline
from tests.pipeline.collectors import Kept, answer_grpc, keep_requests, talk

_FRAME = {"gateway-proxy", "default"}
"""Objects of the frame that are not needed here."""

DESCRIPTORS = base64.b64encode((Path(__file__).parent.parent / "golden" / "shop.pb").read_bytes()).decode()
TRANSCODER = {"protoDescriptorBin": DESCRIPTORS, "services": ["shop.Catalog"], "autoMapping": True}
NEVER = dict.fromkeys(("clientSamplePercentage", "randomSamplePercentage", "overallSamplePercentage"), 0)
FULL = {"filterEnabled": {"defaultValue": {"numerator": 100}}}

SETTINGS: Mapping[str, Any] = {
    "serverName": "shop",
    "serverHeaderTransformation": "OVERWRITE",
    "via": "shop-gateway",
    "appendXForwardedPort": True,
    "headersWithUnderscoresAction": "ALLOW",
    "maxHeadersCount": 20,
    "stripAnyHostPort": True,
    "acceptHttp10": True,
    "defaultHostForHttp10": "old.example.com",
    "normalizePath": False,
    "pathWithEscapedSlashesAction": "KEEP_UNCHANGED",
    "properCaseHeaderKeyFormat": True,
    "streamIdleTimeout": "0.3s",
    "earlyHeaderManipulation": {
        "headersToRemove": ["x-internal"],
        "headersToAdd": [{"header": {"key": "x-early", "value": "yes"}, "append": False}],
    },
    "upgrades": [{"websocket": {"enabled": False}}, {"connect": {}}],
}

GATEWAYS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"grpcWeb": {"disable": True}},
    "settings": {
        "httpConnectionManagerSettings": SETTINGS,
        "router": {"suppressEnvoyHeaders": True},
        "healthCheck": {"path": "/healthz"},
        "headerValidationSettings": {"disableHttp1MethodValidation": {}},
        "grpcWeb": {},
    },
    "compressed": {
        "gzip": {"contentLength": 40, "compressionLevel": "BEST"},
        "extensions": {"configs": {"compression": {"brotli": {"quality": 4}, "zstd": {"compressionLevel": 3}}}},
        "buffer": {"maxRequestBytes": 100},
        "csrf": {**FULL, "additionalOrigins": [{"suffix": ".example.org"}]},
    },
    "zipkin": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "requestHeadersForTags": ["x-tenant"],
                "literalsForTags": [{"tag": "tier", "value": "edge"}],
                "zipkinConfig": {
                    "collectorUpstreamRef": {"name": "collector", "namespace": NAMESPACE},
                    "collectorEndpoint": "/api/v2/spans",
                },
            }
        }
    },
    "datadog": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "datadogConfig": {
                    "collectorUpstreamRef": {"name": "collector", "namespace": NAMESPACE},
                    "serviceName": "dog-shop",
                }
            }
        }
    },
    "telemetry": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "openTelemetryConfig": {
                    "collectorUpstreamRef": {"name": "grpc", "namespace": NAMESPACE},
                    "serviceName": "telemetry-shop",
                }
            }
        }
    },
    "untraced": {
        "httpConnectionManagerSettings": {
            "tracing": {
                "zipkinConfig": {
                    "collectorUpstreamRef": {"name": "missing", "namespace": NAMESPACE},
                    "collectorEndpoint": "/api/v2/spans",
                }
            }
        }
    },
    "transcoder": {"grpcJsonTranscoder": TRANSCODER},
    "choosing": {},
    "behind-one": {
        "httpConnectionManagerSettings": {
            "xffNumTrustedHops": 1,
            "skipXffAppend": True,
            "generateRequestId": False,
            "mergeSlashes": False,
            "maxRequestHeadersKb": 8,
        }
    },
    "forwarded": {
        "httpConnectionManagerSettings": {"useRemoteAddress": False, "preserveExternalRequestId": True},
    },
    "guarded": {
        "sanitizeClusterHeader": True,
        "httpConnectionManagerSettings": {
            "earlyHeaderManipulation": {"headersToAdd": [{"header": {"key": "x-ours", "value": "echo_gloo-system"}}]}
        },
    },
    "behind-proxies": {"leftmostXffAddress": True},
    "forward": {"dynamicForwardProxy": {"dnsCacheConfig": {"dnsLookupFamily": "V4_ONLY"}}},
}


def _tapped(folder: Path) -> dict[str, Any]:
    tap = {
        "pathPrefix": str(folder / "tap"),
        "requestHeaders": {"x-debug": "yes"},
        "responseHeaders": {":status": "418"},
        "maxBufferedRxBytes": 5,
        "recordDownstreamConnection": True,
    }
    return {"extensions": {"configs": {"tap": tap}}}


def _to(upstream: str) -> dict[str, Any]:
    return {"single": {"upstream": {"name": upstream, "namespace": NAMESPACE}}}


def _routes(echo: int) -> Mapping[str, list[dict[str, Any]]]:
    """The routes of each gateway that has some of its own."""
    return {
        "plain": [
            {"matchers": [{"prefix": "/upload"}], "options": {"bufferPerRoute": {"buffer": {"maxRequestBytes": 10}}}},
            {"matchers": [{"prefix": "/guarded"}], "options": {"csrf": FULL}},
            {"matchers": [{"prefix": "/shop.Catalog/"}], "routeAction": _to("translated")},
            {"matchers": [{"connectMatcher": {}}], "options": {"upgrades": [{"connectTerminate": {}}]}},
            {},
        ],
        "settings": [
            {"matchers": [{"prefix": "/", "headers": [{"name": "x-missing"}]}], "routeAction": _to("missing")},
            {"matchers": [{"prefix": "/shop.Catalog/"}], "routeAction": _to("grpc")},
            {"matchers": [{"prefix": "/socket"}], "options": {"upgrades": [{"websocket": {}}]}},
            {"matchers": [{"prefix": "/early", "headers": [{"name": "x-early", "value": "yes"}]}]},
            {"matchers": [{"prefix": "/early"}], "directResponseAction": {"status": 410}},
            {},
        ],
        "compressed": [
            {"matchers": [{"prefix": "/unbuffered"}], "options": {"bufferPerRoute": {"disabled": True}}},
            {"matchers": [{"prefix": "/unguarded"}], "options": {"csrf": {}}},
            {},
        ],
        "transcoder": [{"routeAction": _to("grpc")}],
        "choosing": [{"routeAction": {"clusterHeader": "x-cluster"}}],
        "zipkin": [
            {"matchers": [{"prefix": "/described"}], "options": {"tracing": {"routeDescriptor": "load-cart"}}},
            {"matchers": [{"prefix": "/never"}], "options": {"tracing": {"tracePercentages": NEVER}}},
            {},
        ],
        "guarded": [
            {"matchers": [{"prefix": "/ours"}], "routeAction": {"clusterHeader": "x-ours"}},
            {"routeAction": {"clusterHeader": "x-cluster"}},
        ],
        "behind-proxies": [
            {
                "options": {
                    "headerManipulation": {
                        "requestHeadersToAdd": [
                            {"header": {"key": "x-client", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}
                        ]
                    }
                }
            }
        ],
        "forward": [
            {
                "matchers": [{"prefix": "/literal"}],
                "routeAction": {"dynamicForwardProxy": {"hostRewrite": f"localhost:{echo}"}},
            },
            {
                "matchers": [{"prefix": "/by-header"}],
                "routeAction": {"dynamicForwardProxy": {"autoHostRewriteHeader": "x-wanted"}},
            },
            {"routeAction": {"dynamicForwardProxy": {}}},
        ],
    }


def _objects(
    gateways: Mapping[str, Mapping[str, Any]], ports: Mapping[str, int], echo: int, collector: int, grpc: int
) -> Iterator[dict[str, Any]]:
    routes = _routes(echo)
    for name, options in gateways.items():
        service = {"name": name, "namespace": NAMESPACE}
        yield {
            "kind": "Gateway",
            "metadata": {"name": name},
            "bindAddress": "127.0.0.1",
            "bindPort": ports[name],
            "httpGateway": {"options": options, "virtualServices": [service]},
        }
        yield {
            "kind": "VirtualService",
            "metadata": {"name": name},
            "virtualHost": {"routes": routes.get(name, [{}])},
        }
    for name, port, more in (
        ("echo", echo, {}),
        ("collector", collector, {}),
        ("grpc", grpc, {"useHttp2": True}),
        ("translated", grpc, {"useHttp2": True}),
    ):
        static: dict[str, Any] = {"hosts": [{"addr": "127.0.0.1", "port": port}]}
        if name == "translated":
            static["serviceSpec"] = {"grpcJsonTranscoder": TRANSCODER}
        yield {"kind": "Upstream", "metadata": {"name": name}, "static": static, **more}


@dataclass(frozen=True)
class Gateways:
    """A running Envoy, its ports by gateway, and what its collectors got."""

    ports: Mapping[str, int]
    envoy: Envoy
    echo: int
    collector: Kept
    grpc: Kept
    folder: Path

    def get(
        self, gateway: str, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request; underscores in names of headers stand for dashes."""
        host = headers.pop("host", "gateway.example.com")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return fetch(self.ports[gateway], path, host=host, method=method, headers=sent, body=body)

    def raw(self, gateway: str, *lines: str) -> str:
        """A request line and headers as they are written, and the status line and headers that come back."""
        sent = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
        return talk(self.ports[gateway], sent, until=b"\r\n\r\n").decode()


@contextmanager
def start_gateways(folder: Path, envoy_binary: Path) -> Iterator[Gateways]:
    """An Envoy with all the gateways."""
    gateways = {**GATEWAYS, "tapped": _tapped(folder)}
    ports = {name: free_port() for name in gateways}
    with ExitStack() as stack:
        collector, grpc = stack.enter_context(keep_requests()), stack.enter_context(answer_grpc())
        echo, echo_port = start_echo(folder, name="echo")
        stack.callback(echo.stop)
        written = [*_objects(gateways, ports, echo_port, collector.port, grpc.port)]
        outcome = run_pipeline([item for item in fill_frame(written) if item["metadata"]["name"] not in _FRAME])
        assert not [problem for problem in outcome.problems if problem["severity"] == "error"]
        bootstrap = json_format.MessageToDict(build_bootstrap(outcome.snapshots[ROLE]))
        at_once = {f"tracing.{tracer}.min_flush_spans": 1 for tracer in ("zipkin", "opentelemetry")}
        bootstrap["layeredRuntime"] = {"layers": [{"name": "tests", "staticLayer": at_once}]}
        envoy = start_envoy(folder, bootstrap, binary=envoy_binary, ready=True)
        stack.callback(envoy.stop)
        yield Gateways(ports, envoy, echo_port, collector, grpc, folder)
