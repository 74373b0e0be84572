"""The last certificate that Vault issued for the xDS port, in the data folder: for a start without Vault.

It is kept as secrets are: encrypted, or not at all. What was issued for something else than is asked for now, and what
has ended, is not used.
"""

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from gloo_nomad.app.last_known import LastKnownKeeper, reason_of
from gloo_nomad.kept.file import Header, KeptError, encode_header, read_file, write_file
from gloo_nomad.kept.seal import Seal
from gloo_nomad.store.issued import CertificateRequest
from gloo_nomad.xds.keys import KeyMistakeError, Keys

PART: Final = "xds-certificate"
_NOT_KEPT: Final = "last_known_not_kept"


@dataclass(frozen=True, slots=True)
class KeptKeys:
    """The file with the keys that were issued for a request; without a *keeper* there is none."""

    keeper: LastKnownKeeper | None
    request: CertificateRequest

    async def read(self) -> Keys | None:
        """The keys that were kept, if they can be used."""
        keeper = self.keeper
        if keeper is None:
            return None
        if keeper.seal is None:
            keeper.fail(PART, f"is not kept: {keeper.why_no_key}", _NOT_KEPT)
            return None
        try:
            return await asyncio.to_thread(self._read, keeper, keeper.seal)
        except (KeptError, KeyMistakeError, msgspec.MsgspecError) as failure:
            keeper.fail(PART, str(failure), "last_known_refused")
            return None

    async def write(self, keys: Keys) -> bool:
        """Keeps these keys; False if that is to be tried again. Why they are not kept is told, and no error."""
        keeper = self.keeper
        if keeper is None:
            return True
        if not await keeper.find_key():
            return False
        if keeper.seal is None:
            keeper.fail(PART, f"is not kept: {keeper.why_no_key}", _NOT_KEPT)
            return True
        try:
            await asyncio.to_thread(self._write, keeper, keeper.seal, keys)
        except (KeptError, OSError) as failure:
            keeper.fail(PART, f"cannot be kept: {reason_of(failure)}", _NOT_KEPT)
            return False
        keeper.succeed(PART)
        return True

    def _read(self, keeper: LastKnownKeeper, seal: Seal) -> Keys | None:
        found = read_file(keeper.folder.path(PART), PART, self._place(keeper))
        if found is None:
            return None
        keys = msgspec.msgpack.decode(seal.open(found.content, found.header_bytes), type=Keys).checked()
        if keys.end <= datetime.now(UTC):
            raise KeptError(f"ended at {keys.ends}")
        return keys

    def _write(self, keeper: LastKnownKeeper, seal: Seal, keys: Keys) -> None:
        header = encode_header(Header(part=PART, place=self._place(keeper), written=time.time(), sealed=True))
        write_file(keeper.folder.path(PART), header, seal.close(msgspec.msgpack.encode(keys), header))

    def _place(self, keeper: LastKnownKeeper) -> dict[str, str]:
        """Whose file it is, and what the certificate was asked for; how long it lasts makes it no other one."""
        asked = {name: str(value) for name, value in asdict(self.request).items() if name != "ttl"}
        return {**keeper.folder.place, **asked}
