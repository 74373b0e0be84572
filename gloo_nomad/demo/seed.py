"""The example objects of ``consul-kv-seed/``: copied with other ports, as keys or laid out as a directory source."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gloo_nomad.api import codec
from gloo_nomad.api.kinds import KINDS, SETTINGS, Kind
from gloo_nomad.demo.processes import ServerError

SEED: Final = Path("consul-kv-seed")
CERTIFICATE: Final = ("gloo-system", "gateway-tls")
"""Namespace and name of the Secret that the seed's HTTPS virtual service asks for."""


@dataclass(frozen=True)
class SeedObject:
    """One file of the seed: its kind, its key (without ``.yaml``), and its text."""

    kind: Kind
    key: str
    text: str

    @property
    def namespace(self) -> str:
        """The last folder of the key."""
        return self.key.split("/")[-2]

    @property
    def name(self) -> str:
        """The end of the key."""
        return self.key.split("/")[-1]


def read_seed(seed: Path = SEED) -> Iterator[SeedObject]:
    """Every object of the seed, in the order of keys. Raises ``ServerError`` if *seed* is no seed."""
    files = sorted(seed.rglob("*.yaml"))
    if not files:
        raise ServerError(f"{seed} has no objects: run this in the checkout, where consul-kv-seed/ is")
    for file in files:
        key = file.relative_to(seed).with_suffix("").as_posix()
        yield SeedObject(KINDS[key.split("/")[3]], key, file.read_text())


def with_ports(example: SeedObject, *, http: int, https: int, address: str = "::") -> SeedObject:
    """The same object, a Gateway with these ports of Envoy instead of 8080 and 8443; its comments stay."""
    if example.kind.name != "Gateway":
        return example
    text = example.text.replace("bindPort: 8080", f"bindPort: {http}").replace("bindPort: 8443", f"bindPort: {https}")
    return SeedObject(example.kind, example.key, text.replace('bindAddress: "::"', f'bindAddress: "{address}"'))


def write_keys(folder: Path, objects: Iterator[SeedObject]) -> None:
    """Writes objects as a folder whose tree is the key tree."""
    for example in objects:
        _write(folder / f"{example.key}.yaml", example.text)


def write_directory(folder: Path, objects: Iterator[SeedObject], *, echo_port: int) -> None:
    """Writes objects as a directory source, ``<plural>/<namespace>/<name>.yaml``.

    Without Consul the upstream ``echo`` has a fixed address, and Settings are not read from the folder.
    """
    for example in objects:
        if example.kind is SETTINGS:
            continue
        text = _build_static_upstream(example, echo_port) if example.kind.name == "Upstream" else example.text
        _write(folder / example.kind.plural / example.namespace / f"{example.name}.yaml", text)


def _build_static_upstream(example: SeedObject, port: int) -> str:
    document: dict[str, Any] = {
        "metadata": {"name": example.name, "namespace": example.namespace},
        "static": {"hosts": [{"addr": "127.0.0.1", "port": port}]},
    }
    return codec.to_yaml(document)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
