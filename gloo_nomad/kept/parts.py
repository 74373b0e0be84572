"""The files that are kept, and what goes into which: a change of instances is no reason to write all objects again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gloo_nomad.api.gen import settings_pb2
from gloo_nomad.api.kinds import AUTH_CONFIG, KINDS, SECRET, SETTINGS
from gloo_nomad.kept.content import Content, decode_content, encode_content
from gloo_nomad.kept.file import Header, KeptError, encode_header, read_file, write_file
from gloo_nomad.kept.seal import Seal
from gloo_nomad.store.issued import ISSUED
from gloo_nomad.store.mesh import MESH_IDENTITY, MESH_SERVICE
from gloo_nomad.store.services import CONSUL_SERVICE, NOMAD_SERVICE

CONFIGURATION: Final = "configuration"
SECRETS: Final = "secrets"
SERVICES: Final = "services"
_SECRET_KINDS: Final = frozenset({SECRET.name, AUTH_CONFIG.name, ISSUED, MESH_IDENTITY})
PARTS: Final[Mapping[str, frozenset[str]]] = {
    CONFIGURATION: frozenset(KINDS) - _SECRET_KINDS,
    SECRETS: _SECRET_KINDS,
    SERVICES: frozenset({CONSUL_SERVICE, MESH_SERVICE, NOMAD_SERVICE}),
}
"""Kinds by part. Secrets are kept encrypted, or not at all."""


@dataclass(frozen=True, slots=True)
class KeptFolder:
    """The folder of one installation."""

    folder: Path
    place: Mapping[str, str]
    """Where objects are read from: what was kept of another place is refused."""

    def path(self, part: str) -> Path:
        """The file of a part."""
        return self.folder / f"{part}.kept"

    def write(self, part: str, content: Content, seal: Seal | None) -> None:
        """Keeps a part. Raises ``KeptError`` and ``OSError``, and then what was kept before stays."""
        seal = seal if part == SECRETS else None
        header = encode_header(Header(part=part, place=dict(self.place), written=time.time(), sealed=seal is not None))
        data = encode_content(content, _without_credentials)
        write_file(self.path(part), header, seal.close(data, header) if seal is not None else data)

    def read(self, part: str, seal: Seal | None) -> tuple[float, Content] | None:
        """When a part was written, and what is in it; None if there is none. Raises ``KeptError``."""
        found = read_file(self.path(part), part, self.place)
        if found is None:
            return None
        data = found.content
        if found.header.sealed or part == SECRETS:
            if seal is None:
                raise KeptError("is encrypted, and there is no key for it")
            data = seal.open(data, found.header_bytes)
        content = decode_content(data)
        if not PARTS[part].issuperset(kind for _, kind in content.groups):
            raise KeptError("holds what belongs elsewhere")
        return found.header.written, content


def _without_credentials(kind: str, value: Any) -> Any:
    """What is kept of an object in a file that is not encrypted: Settings without who we are in Consul and Vault."""
    if kind != SETTINGS.name:
        return value
    kept = settings_pb2.Settings()
    kept.CopyFrom(value)
    for name in ("token", "username", "password"):
        kept.consul.ClearField(name)
    vaults = [source.vault for source in kept.secret_options.sources if source.HasField("vault")]
    if kept.HasField("vault_secret_source"):
        vaults.append(kept.vault_secret_source)
    for vault in vaults:
        vault.ClearField("token")
        vault.ClearField("auth_method")
    return kept
