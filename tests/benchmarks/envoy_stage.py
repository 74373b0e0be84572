"""What a change costs in the pure stages alone: ``python -m tests.benchmarks.envoy_stage [VIRTUAL_SERVICES] [MODE]``.

CPU milliseconds, medians of several changes; nothing is read, written or sent. ``publish`` is what the xDS server does
with the result before a stream is looked at. MODE is one of ``virtualHostDiscovery``.
"""

import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format

from gloo_nomad.api import codec
from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.clusters import translate_clusters
from gloo_nomad.envoy.translate import EnvoyProxy, translate_proxy
from gloo_nomad.gateway.translate import translate_gateways
from gloo_nomad.pipeline import assemble_snapshot
from gloo_nomad.proxies import Proxy
from gloo_nomad.splitting import Splitting
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.store import Store
from gloo_nomad.xds.cache import XdsCache
from tests.benchmarks.objects import configuration, upstream, virtual_service, virtual_service_key

CHANGES = 9
STAGES = ("gateway", "proxy", "clusters", "sweep", "publish")


@dataclass
class Bench:
    """A store and the memory of the stages."""

    size: int
    store: Store = field(default_factory=Store)
    memo: Memo = field(default_factory=Memo)
    settings: settings_pb2.Settings = field(default_factory=settings_pb2.Settings)
    splitting: Splitting = field(default_factory=Splitting)
    cache: XdsCache = field(default_factory=XdsCache)

    def load(self) -> None:
        """Stores everything to begin with."""
        puts: dict[str, dict[Ref, Entry]] = {}
        for key, text in configuration(self.size, self.size):
            kind, ref, entry = _decode(key, text)
            puts.setdefault(kind, {})[ref] = entry
        for kind, entries in puts.items():
            self.store.apply(Change("bench", kind, entries, complete=True))

    def put(self, key: str, text: str) -> None:
        """Stores one object."""
        kind, ref, entry = _decode(key, text)
        self.store.apply(Change("bench", kind, {ref: entry}))

    def run(self) -> tuple[float, ...]:
        """Translates; the CPU milliseconds of each stage."""
        snapshot, marks = self.store.snapshot, [time.process_time()]
        proxies, _ = translate_gateways(snapshot, self.settings, self.memo)
        marks.append(time.process_time())
        found = [self._translate_proxy(proxy) for proxy in proxies]
        marks.append(time.process_time())
        services = frozenset[str]().union(*(proxy.consul_services for proxy in found))
        clusters = translate_clusters(snapshot, self.settings, self.memo, services)
        marks.append(time.process_time())
        pairs = zip(proxies, found, strict=True)
        served = {proxy.role: assemble_snapshot(proxy.role, envoy, clusters, self.memo) for proxy, envoy in pairs}
        self.memo.sweep()
        marks.append(time.process_time())
        self.cache.publish(served)
        marks.append(time.process_time())
        return tuple(1000 * (after - before) for before, after in itertools.pairwise(marks))

    def _translate_proxy(self, proxy: Proxy) -> EnvoyProxy:
        split = self.splitting.choose(proxy, self.settings)
        scoping = self.splitting.scoping(proxy, self.settings)
        return translate_proxy(proxy, self.store.snapshot, self.settings, self.memo, split, scoping=scoping)


def _decode(key: str, text: str) -> tuple[str, Ref, Entry]:
    kind, namespace, name = key.split("/")[3:]
    decoded = codec.decode(KINDS[kind], text.encode(), Ref(namespace, name))
    return kind, Ref(namespace, name), Entry(decoded.message, decoded.rejection)


def _upstream_key(number: int) -> str:
    return f"gloo/gloo.solo.io/v1/Upstream/gloo-system/upstream-{number:04d}"


def _measure(bench: Bench, change: Callable[[int], Any]) -> tuple[float, ...]:
    rounds = []
    for number in range(CHANGES):
        change(number)
        rounds.append(bench.run())
    return tuple(statistics.median(column) for column in zip(*rounds, strict=True))


def main(size: int, mode: str) -> None:
    """Prints the table."""
    own = {"extensions": {"configs": {"gloo-nomad": {"virtualHostDiscovery": mode}}}}
    bench = Bench(size, settings=json_format.ParseDict(own, settings_pb2.Settings()))
    bench.load()
    rows = {"from scratch": bench.run()}
    gc.collect()
    gc.freeze()
    text = virtual_service
    rows["nothing changed"] = _measure(bench, lambda _: None)
    rows["one virtual service"] = _measure(bench, lambda n: bench.put(virtual_service_key(7), text(7, size, f"m{n}")))
    rows["one upstream"] = _measure(
        bench, lambda n: bench.put(_upstream_key(7), upstream(7).replace("127.0.0.1", f"127.0.0.{n + 2}"))
    )
    rows["one more upstream"] = _measure(bench, lambda n: bench.put(_upstream_key(size + n), upstream(size + n)))
    print(f"{size} virtual services of ten routes, {size} upstreams; CPU milliseconds, median of {CHANGES} changes")
    print(f"{'':22}" + "".join(f"{stage:>10}" for stage in STAGES))
    for name, row in rows.items():
        print(f"{name:22}" + "".join(f"{value:10.1f}" for value in row))


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["3000"])[0]), (sys.argv[2:] or ["auto"])[0])
