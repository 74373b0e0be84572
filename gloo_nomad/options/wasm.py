"""Filters of one's own as WebAssembly, from files on Envoy's machine (``filePath``), run by V8.

Envoy reads the file when it is sent the listener, and nobody else can: a file that is missing or broken makes it refuse
the listener, go on with what it had, and say so to the Gateway. Put files in place first, and give a new version a new
path, because Envoy does not look at a file again. Images from a registry need a cache server that is not here.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/wasm_filter
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.extensions.filters.http.wasm.v3 import wasm_pb2 as wasm_filter_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.wasm.v3 import wasm_pb2 as envoy_wasm_pb2

from gloo_nomad.acceptance.quoting import quote
from gloo_nomad.api.gen import wasm_pb2
from gloo_nomad.messages import typed_config
from gloo_nomad.options.guards import refuse_enum
from gloo_nomad.options.hooks import EVERY, Claims, ListenerContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.reports import Finding, error, is_rejected

FILTER: Final = "envoy.filters.http.wasm"
RUNTIME: Final = "envoy.wasm.runtime.v8"
MAX_FILTERS: Final = 100

FIELDS: Claims = {
    "gloo.solo.io.HttpListenerOptions": ("wasm",),
    "wasm.options.gloo.solo.io.PluginSource": EVERY,
    "wasm.options.gloo.solo.io.WasmFilter": (
        "config",
        "filter_stage",
        "name",
        "root_id",
        "file_path",
        "fail_open",
    ),
    "wasm.options.gloo.solo.io.FilterStage": EVERY,
}
REFUSED: Claims = {"wasm.options.gloo.solo.io.WasmFilter": ("image", "vm_type")}
_POSITIONS: Final = {
    wasm_pb2.FilterStage.Before: Position.BEFORE,
    wasm_pb2.FilterStage.During: Position.DURING,
    wasm_pb2.FilterStage.After: Position.AFTER,
}


def http_filters(context: ListenerContext) -> Iterable[StagedFilter | Finding]:
    if not context.options.HasField("wasm"):
        return
    plugins = context.options.wasm.filters
    if len(plugins) > MAX_FILTERS:
        yield error("wasm.filters", f"may have at most {MAX_FILTERS} entries")
        return
    for index, plugin in enumerate(plugins):
        findings = [*_check(plugin, f"wasm.filters[{index}]")]
        yield from findings
        if not is_rejected(findings):
            yield _stage_filter(plugin, f"{FILTER}.{index:02}")


def _check(plugin: wasm_pb2.WasmFilter, path: str) -> Iterator[Finding]:
    match plugin.WhichOneof("src"):
        case "file_path":
            if not plugin.file_path.startswith("/") or not plugin.file_path.isprintable():
                yield error(f"{path}.filePath", f"{quote(plugin.file_path)} is no absolute path of a file")
        case "image":
            yield error(f"{path}.image", "images cannot be fetched; put the file beside Envoy and name it in filePath")
        case _:
            yield error(f"{path}.filePath", "is required: the file, as Envoy sees it")
    if plugin.vm_type != wasm_pb2.WasmFilter.V8:
        yield error(f"{path}.vmType", "only V8 is in stock Envoy")
    for name in ("stage", "predicate"):
        yield from refuse_enum(plugin.filter_stage, name, f"{path}.filterStage")


def _stage_filter(plugin: wasm_pb2.WasmFilter, name: str) -> StagedFilter:
    """The number in the name keeps filters of one stage in the order in which they are written."""
    config = typed_config(wasm_filter_pb2.Wasm(config=_build_plugin(plugin)))
    built = http_connection_manager_pb2.HttpFilter(name=name, typed_config=config)
    if not plugin.HasField("filter_stage"):
        return StagedFilter(Stage.ACCEPTED, built)
    return StagedFilter(Stage(plugin.filter_stage.stage), built, _POSITIONS[plugin.filter_stage.predicate])


def _build_plugin(plugin: wasm_pb2.WasmFilter) -> Any:
    built = envoy_wasm_pb2.PluginConfig(name=plugin.name, root_id=plugin.root_id)
    if plugin.fail_open:
        built.failure_policy = envoy_wasm_pb2.FAIL_OPEN
    if plugin.HasField("config"):
        built.configuration.CopyFrom(plugin.config)
    built.vm_config.runtime = RUNTIME
    built.vm_config.code.local.filename = plugin.file_path
    return built
