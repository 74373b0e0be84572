"""Objects through the whole pipeline: what Envoy is served, as documents, and what is reported."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format, symbol_database

from gloo_nomad import messages
from gloo_nomad.api import codec
from gloo_nomad.api.gen import secret_pb2, settings_pb2
from gloo_nomad.api.kinds import KINDS, SETTINGS
from gloo_nomad.api.refs import Ref
from gloo_nomad.envoy.endpoints import translate_endpoints
from gloo_nomad.pipeline import Pipeline
from gloo_nomad.reports import Problem
from gloo_nomad.resources import ENDPOINTS, PUSH_ORDER, XdsSnapshot
from gloo_nomad.store.change import Change, Entry
from gloo_nomad.store.memo import Memo
from gloo_nomad.store.mesh import MESH_IDENTITY, MESH_SERVICE, MeshIdentity, parse_spiffe
from gloo_nomad.store.services import CONSUL_SERVICE, NOMAD_SERVICE, Instance, Place, ServiceInstances
from gloo_nomad.store.store import Store

ROLE: Final = "gloo-system~gateway-proxy"
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What becomes of objects."""

    snapshots: Mapping[str, XdsSnapshot]
    """By role, endpoints included."""
    problems: tuple[dict[str, str], ...]

    def resources(self) -> dict[str, dict[str, Any]]:
        """Every resource as a document, by role and ``<type> <name>``, in the order in which Envoy is sent them."""
        return {
            role: {
                f"{type_url.rpartition('.')[2]} {name}": to_document(type_url, resource.body)
                for type_url in PUSH_ORDER
                for name, resource in sorted(snapshot.of(type_url).items())
            }
            for role, snapshot in sorted(self.snapshots.items())
        }


def run_pipeline(documents: Iterable[Document], settings: Document | None = None) -> Outcome:
    """Stores the objects one after the other, and translates them at once."""
    store = Store()
    for number, document in enumerate(documents, 1):
        store.apply(_to_change(document, number))
    parsed = parse_settings(settings or {})
    pipeline = Pipeline()
    translation = pipeline.translate(store.snapshot, parsed)
    endpoints = translate_endpoints(translation.clusters, store.snapshot, Memo())
    snapshots = {role: snapshot.with_type(ENDPOINTS, endpoints) for role, snapshot in translation.xds.items()}
    problems = (*store.problems(), *translation.problems)
    return Outcome(snapshots, tuple(_to_entry(problem) for problem in sorted(set(problems), key=_problem_key)))


def _problem_key(problem: Problem) -> tuple[Any, ...]:
    return problem.ref, problem.path, -problem.severity, problem.message


def _to_entry(problem: Problem) -> dict[str, str]:
    return {
        "severity": problem.severity.name.lower(),
        "object": str(problem.ref),
        "path": problem.path,
        "message": problem.message,
    }


def _to_change(document: Document, created: int) -> Change:
    """The change that a source would send for an object, for raw ``text`` under a ``key``, or for a service."""
    if document["kind"] == MESH_IDENTITY:
        return _to_identity(document, created)
    if document["kind"] in {CONSUL_SERVICE, MESH_SERVICE, NOMAD_SERVICE}:
        ref = Ref(_to_place(document), document["name"])
        numbered = enumerate(document["instances"])
        found = tuple(_to_instance(instance, number, document.get("datacenter", "")) for number, instance in numbered)
        service = ServiceInstances(found, document.get("near", True))
        return Change("services", document["kind"], {ref: Entry(service, created=created)})
    kind = KINDS[document["kind"]]
    if "text" in document:
        ref, text = Ref(*document["key"].split("/")), document["text"].encode()
    else:
        ref = Ref(document["metadata"]["namespace"], document["metadata"]["name"])
        text = json.dumps({key: value for key, value in document.items() if key != "kind"}).encode()
    decoded = codec.decode(kind, text, ref)
    entry = Entry(decoded.message, decoded.rejection, decoded.status, created, created)
    return Change("golden", kind.name, {ref: entry})


def _to_identity(document: Document, created: int) -> Change:
    secret = json_format.ParseDict({"tls": document["tls"]}, secret_pb2.Secret())
    place = parse_spiffe(document["uri"])
    assert place is not None
    identity = Entry(MeshIdentity(place, secret), created=created)
    return Change("mesh", MESH_IDENTITY, {Ref("", document["name"]): identity})


def _to_place(document: Document) -> str:
    if document["kind"] == NOMAD_SERVICE:
        return str(document.get("namespace", ""))
    return str(Place(*(document.get(name, "") for name in ("datacenter", "namespace", "partition", "reading"))))


def _to_instance(instance: Document, number: int, datacenter: str) -> Instance:
    return Instance(
        instance["address"],
        instance["port"],
        f"i{number}",
        tuple(instance.get("tags", ())),
        instance.get("datacenter", datacenter),
        weight=instance.get("weight", 1),
        host_name=instance.get("hostName", ""),
        degraded=instance.get("degraded", False),
        ports=tuple(sorted(instance.get("ports", {}).items())),
    )


def to_document(type_url: str, body: bytes) -> dict[str, Any]:
    """An Envoy resource as a document, with Envoy's own field names."""
    message = symbol_database.Default().GetSymbol(type_url.removeprefix(messages.TYPE_URL_PREFIX))()
    message.ParseFromString(body)
    document: dict[str, Any] = _sorted(json_format.MessageToDict(message, preserving_proto_field_name=True))
    return document


def _sorted(value: Any) -> Any:
    """Plain containers; keys sorted, because maps have no order, with the type and the name first."""
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: (key != "@type", key != "name", key))
        return {key: _sorted(value[key]) for key in keys}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value


def parse_settings(document: Document) -> settings_pb2.Settings:
    """The settings of a case."""
    return json_format.ParseDict(dict(document), settings_pb2.Settings())


def parse_objects(documents: Iterable[Document]) -> Iterator[Any]:
    """The messages of all objects that can be read."""
    for number, document in enumerate(documents):
        if document["kind"] != SETTINGS.name:
            yield from (entry.value for entry in _to_change(document, number).puts.values() if entry.value is not None)
