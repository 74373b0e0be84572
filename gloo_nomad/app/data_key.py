"""The key by which secrets are kept on disk: in the environment, in a file, or wrapped by Vault's transit engine.

Of a wrapped key the folder has what only Vault can unwrap, at each start; the key itself is in memory alone.
"""

import asyncio
from pathlib import Path
from typing import Final

from gloo_nomad.app.vault import VaultMessage, vault_client, vaults_of
from gloo_nomad.clients.http import BadRequestError, WorldError
from gloo_nomad.kept.file import KeptError, read_text, write_text
from gloo_nomad.kept.seal import Seal, parse_key
from gloo_nomad.settings import RuntimeSettings, SettingsError

VARIABLE: Final = "GLOO_NOMAD_DATA_KEY"
WRAPPED_NAME: Final = "key.wrapped"
TRANSIT_SECONDS: Final = 3.0
"""How long a start waits for Vault to unwrap a key."""
_FILE: Final = "dataKeyFile"
_TRANSIT: Final = "dataKeyTransit"


async def find_seal(settings: RuntimeSettings, folder: Path) -> Seal | None:
    """The seal that the settings lead to; None if they name no key. A wrapped key is in the *folder*.

    Raises:
        KeptError: the key cannot be had; the text does not show it.
    """
    try:
        if text := settings.environ.get(VARIABLE, ""):
            return Seal(parse_key(text, VARIABLE))
        if file := str(settings.own(_FILE)):
            text = await asyncio.to_thread(Path(file).read_text)
            return Seal(parse_key(text, f"the file {file} ({_FILE})"))
        if place := str(settings.own(_TRANSIT)):
            async with asyncio.timeout(TRANSIT_SECONDS):
                return await _unwrap(settings, place, folder / WRAPPED_NAME)
    except TimeoutError:
        raise KeptError("there is no key: Vault does not answer in time") from None
    except (ValueError, OSError, SettingsError, WorldError) as failure:
        raise KeptError(f"there is no key: {failure}") from failure
    return None


async def _unwrap(settings: RuntimeSettings, place: str, file: Path) -> Seal:
    mount, slash, name = place.rpartition("/")
    if not slash or not name:
        raise ValueError(f"{_TRANSIT} is to be <mount>/<name of the key>, such as transit/gloo-nomad")
    client = vault_client(next(vaults_of(settings), VaultMessage()), settings)
    try:
        wrapped = await asyncio.to_thread(read_text, file)
        if wrapped is not None:
            try:
                return Seal(parse_key(await client.unwrap_key(mount, name, wrapped), str(file)))
            except BadRequestError:
                pass  # of another Vault or key: what it closed is lost
        key, wrapped = await client.make_key(mount, name)
        await asyncio.to_thread(write_text, file, wrapped)
        return Seal(parse_key(key, place))
    finally:
        await client.close()
