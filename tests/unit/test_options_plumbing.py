"""How options are found, ordered and asked; what they refuse together."""

import types
from collections.abc import Iterable
from typing import Any

import pytest
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from gloo_nomad.api.gen import route_options_pb2, settings_pb2, tracing_pb2
from gloo_nomad.api.refs import ObjectRef
from gloo_nomad.options import registry
from gloo_nomad.options.cases import load_cases, option_names
from gloo_nomad.options.guards import build_percentage, field_path, refuse_percentage, refuse_unforwarded
from gloo_nomad.options.hooks import HOOK_NAMES, Claims, ListenerContext, RouteContext
from gloo_nomad.options.stages import Position, Stage, StagedFilter
from gloo_nomad.store.memo import Reads
from gloo_nomad.store.snapshot import ConfigSnapshot

SOURCE = ObjectRef("VirtualService", "gloo-system", "default")


def module(name: str, **claims: Claims) -> types.ModuleType:
    """A feature module with claims."""
    made = types.ModuleType(name)
    for table, claimed in claims.items():
        setattr(made, table, claimed)
    return made


def listener_context(settings: settings_pb2.Settings, used: Iterable[str] = ()) -> ListenerContext:
    """The context of a listener whose routes use these filters."""
    return ListenerContext(settings, Reads(ConfigSnapshot()), SOURCE, used_filters=frozenset(used))


def test_options_are_found_by_walking_the_package() -> None:
    """What stands in the package is found, what only carries it is not."""
    assert {"cors", "retries", "timeouts"} <= set(option_names())
    assert not {"added_headers", "hooks", "stages", "registry", "claims", "cases", "guards", "servers"} & set(
        option_names()
    )


def test_each_option_has_a_hook() -> None:
    """A module without a hook would claim what it does not do."""
    for found in registry.modules("gloo_nomad.options"):
        assert any(hasattr(found, name) for name in HOOK_NAMES), found.__name__


def test_no_public_function_of_an_option_is_a_misspelt_hook() -> None:
    """Everything public that an option defines is a hook, so that none is overlooked."""
    for found in registry.modules("gloo_nomad.options"):
        own = {
            name
            for name, value in vars(found).items()
            if isinstance(value, types.FunctionType) and value.__module__ == found.__name__ and name[0] != "_"
        }
        assert own <= set(HOOK_NAMES), found.__name__


def test_an_unknown_hook_is_no_hook() -> None:
    """Asking for a hook that does not exist is a mistake of ours."""
    with pytest.raises(KeyError):
        registry.hooks("apply_everything")


def test_a_field_has_one_owner() -> None:
    """Two modules that claim one field cannot start together; what they read may be shared."""
    shared: Claims = {"b.B": ("y",)}
    one = module("one", FIELDS={"a.A": ("x",)}, READS=shared)
    two = module("two", FIELDS={"a.A": ("y",)}, READS=shared)

    assert registry.collect([one, two]) == {"a.A": frozenset({"x", "y"}), "b.B": frozenset({"y"})}
    with pytest.raises(registry.ClaimedTwiceError, match=r"a\.A\.x is claimed by one and by three"):
        registry.collect([one, module("three", FIELDS={"a.A": ("x",)})])


def test_refused_fields_are_known_and_not_supported() -> None:
    """A module that answers a field with an error owns it, and does not make it work."""
    one = module("one", FIELDS={"a.A": ("x",)}, REFUSED={"a.A": ("y",)})

    assert registry.collect([one]) == {"a.A": frozenset({"x"})}
    assert registry.collect_refused([one]) == {"a.A": frozenset({"y"})}
    with pytest.raises(registry.ClaimedTwiceError, match=r"a\.A\.y is claimed by one and by two"):
        registry.collect([one, module("two", FIELDS={"a.A": ("y",)})])


def test_filters_are_left_out_unless_used() -> None:
    """A filter that nothing configures is left out, unless the settings keep unused ones."""
    keep = settings_pb2.Settings()
    keep.gloo.remove_unused_filters.value = False

    assert not listener_context(settings_pb2.Settings()).needs("a")
    assert listener_context(settings_pb2.Settings(), ["a"]).needs("a")
    assert listener_context(keep).needs("a")


def test_filters_are_ordered_by_stage_position_and_name() -> None:
    """The order of filters never depends on the order of modules."""

    def staged(stage: Stage, position: Position, name: str) -> StagedFilter:
        return StagedFilter(stage, http_connection_manager_pb2.HttpFilter(name=name), position)

    ordered = [
        staged(Stage.FAULT, Position.DURING, "z"),
        staged(Stage.CORS, Position.BEFORE, "z"),
        staged(Stage.CORS, Position.DURING, "a"),
        staged(Stage.CORS, Position.DURING, "b"),
        staged(Stage.CORS, Position.AFTER, "a"),
        staged(Stage.ROUTE, Position.DURING, "a"),
    ]
    shuffled = ordered[::-1]

    assert sorted(shuffled, key=StagedFilter.sort_key) == ordered


def test_all_filters_of_options_come_in_the_known_order() -> None:
    """Faults come before CORS, as the documentation of filter order says."""
    keep = settings_pb2.Settings()
    keep.gloo.remove_unused_filters.value = False
    staged = [one for hook in registry.hooks("http_filters") for one in hook(listener_context(keep))]
    names = [one.filter.name for one in sorted(staged, key=StagedFilter.sort_key)]

    assert names.index("envoy.filters.http.fault") < names.index("envoy.filters.http.cors")


def test_what_needs_forwarding_is_refused_elsewhere() -> None:
    """An option of forwarding is an error on a redirect, and none on a route that forwards."""
    options = route_options_pb2.RouteOptions()
    options.timeout.seconds = 1
    forwards = RouteContext(settings_pb2.Settings(), Reads(ConfigSnapshot()), SOURCE)
    redirects = RouteContext(settings_pb2.Settings(), Reads(ConfigSnapshot()), SOURCE, has_route_action=False)

    assert [*refuse_unforwarded(options, ("timeout", "retries"), forwards)] == []
    assert [finding.path for finding in refuse_unforwarded(options, ("timeout", "retries"), redirects)] == ["timeout"]


@pytest.mark.parametrize(
    ("value", "refused"), [(0.0, False), (100.0, False), (-0.1, True), (100.5, True), (float("nan"), True)]
)
def test_percentages_are_between_0_and_100(value: float, refused: bool) -> None:
    """Also what is no number is refused."""
    percentages = tracing_pb2.TracePercentages()
    percentages.client_sample_percentage.value = value
    found = [*refuse_percentage(percentages, "client_sample_percentage", "tracing")]

    assert [finding.path for finding in found] == (["tracing.clientSamplePercentage"] if refused else [])


def test_percentages_are_sent_in_millionths() -> None:
    """Half a percent is 5,000 of a million."""
    built: Any = build_percentage(0.5)

    assert (built.numerator, built.denominator) == (5_000, built.MILLION)


def test_paths_are_as_users_write_them() -> None:
    """Fields are named in lowerCamelCase."""
    assert field_path(route_options_pb2.RouteOptions(), "prefix_rewrite", "options") == "options.prefixRewrite"


def test_cases_can_be_read_by_people() -> None:
    """A case prints its objects as YAML, and what comes of them."""
    text = load_cases("timeouts")[0].render()

    assert "timeout: 2.5s" in text
    assert text.startswith("# timeout: ")
    with pytest.raises(KeyError):
        load_cases("hooks")
