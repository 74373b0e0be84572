"""Which route tables a delegating route means: one by name, or all that a selector picks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gloo_nomad.api.gen import gateway_pb2
from gloo_nomad.api.kinds import ROUTE_TABLE
from gloo_nomad.api.refs import Ref
from gloo_nomad.gateway.labels import EVERYWHERE, Requirement, admits, contains, in_namespaces, parse_expressions
from gloo_nomad.reports import Finding, warning
from gloo_nomad.store.memo import Memo, Reads

FIELDS: Final = {
    "gateway.solo.io.DelegateAction": ("name", "namespace", "ref", "selector"),
    "gateway.solo.io.RouteTableSelector": ("namespaces", "labels", "expressions"),
    "gateway.solo.io.RouteTableSelector.Expression": ("key", "operator", "values"),
}

Named = tuple[Ref, gateway_pb2.RouteTable]
Selected = tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class TableIndex:
    """Route tables by namespace and by label, so that thousands of selectors need not look at all of them."""

    by_namespace: Mapping[str, list[Named]] = field(default_factory=dict)
    by_label: Mapping[tuple[str, str], list[Named]] = field(default_factory=dict)

    def candidates(self, query: "Query") -> list[Named]:
        """Tables that may match, in order; the shortest list that has them all."""
        lists = [self.by_label.get(pair, []) for pair in query.labels]
        if EVERYWHERE not in query.namespaces and len(query.namespaces) == 1:
            lists.append(self.by_namespace.get(next(iter(query.namespaces)), []))
        return min(lists or [self.by_namespace.get(EVERYWHERE, [])], key=len)


def build_index(tables: Mapping[Ref, gateway_pb2.RouteTable]) -> TableIndex:
    """The index of all route tables."""
    by_namespace: dict[str, list[Named]] = {}
    by_label: dict[tuple[str, str], list[Named]] = {}
    for ref, table in tables.items():
        entry = (ref, table)
        by_namespace.setdefault(ref.namespace, []).append(entry)
        by_namespace.setdefault(EVERYWHERE, []).append(entry)
        for pair in table.metadata.labels.items():
            by_label.setdefault(pair, []).append(entry)
    return TableIndex(by_namespace, by_label)


class Query(NamedTuple):
    """A selector, read."""

    namespaces: frozenset[str]
    labels: tuple[tuple[str, str], ...]
    requirements: tuple[Requirement, ...]

    def admits(self, ref: Ref, table: gateway_pb2.RouteTable) -> bool:
        """Whether a table is selected."""
        if not in_namespaces(ref.namespace, self.namespaces):
            return False
        labels = table.metadata.labels
        return contains(labels, self.labels) and admits(self.requirements, labels)


class TableFinder(NamedTuple):
    """Finds route tables, and writes down what it read."""

    reads: Reads
    memory: Memo
    """Keeps the index as long as no route table changes."""

    def find(self, action: gateway_pb2.DelegateAction, namespace: str) -> Selected | Finding:
        """The tables that a delegating route in *namespace* means, by name; a warning when there are none."""
        if action.name or action.namespace:
            return self._by_ref(Ref(action.namespace, action.name), "")
        kind = action.WhichOneof("delegation_type")
        if kind == "ref":
            return self._by_ref(Ref(action.ref.namespace, action.ref.name), "ref")
        if kind == "selector":
            return self._by_selector(action.selector, namespace)
        return warning("", "names no route table; set ref or selector")

    def _by_ref(self, ref: Ref, path: str) -> Selected | Finding:
        table = self.reads.get(ROUTE_TABLE.name, ref)
        if table is not None:
            return ((ref, table),)
        remedy = "it is served as soon as it exists" if ref.namespace else "set the namespace too"
        return warning(path, f"route table {ref} missing; {remedy}")

    def _by_selector(self, selector: gateway_pb2.RouteTableSelector, namespace: str) -> Selected | Finding:
        query = _read(selector, namespace)
        if isinstance(query, Finding):
            return query
        tables = self.reads.snapshot.of(ROUTE_TABLE.name)
        index = self.memory.get(("route tables",), (tables,), lambda: build_index(tables))
        found = self.reads.matching(ROUTE_TABLE.name, query.admits, index.candidates(query))
        if not found:
            return warning("selector", "no route table matches the given selector")
        return found


def _read(selector: gateway_pb2.RouteTableSelector, namespace: str) -> Query | Finding:
    if selector.labels and selector.expressions:
        return warning("selector", "labels and expressions exclude each other; write the labels as expressions")
    requirements = parse_expressions(selector.expressions, "selector.expressions")
    if isinstance(requirements, Finding):
        return warning(requirements.path, requirements.message)
    namespaces = frozenset(selector.namespaces) or frozenset({namespace})
    return Query(namespaces, tuple(sorted(selector.labels.items())), requirements)


def by_weight(tables: Selected) -> list[list[Named]]:
    """Tables in groups of equal weight, the lightest group first; a table without one weighs 0."""
    groups: dict[int, list[Named]] = {}
    for ref, table in tables:
        groups.setdefault(table.weight.value, []).append((ref, table))
    return [groups[weight] for weight in sorted(groups)]
