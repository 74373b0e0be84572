"""The key by which secrets are kept on disk: in the environment, in a file, or wrapped by Vault's transit engine."""

import asyncio
from pathlib import Path
from typing import Final

from gloo_nomad.kept.file import KeptError
from gloo_nomad.kept.seal import Seal, parse_key
from gloo_nomad.settings import RuntimeSettings

VARIABLE: Final = "GLOO_NOMAD_DATA_KEY"
_FILE: Final = "dataKeyFile"


async def find_seal(settings: RuntimeSettings) -> Seal | None:
    """The seal that the settings lead to; None if they name no key.

    Raises:
        KeptError: the key cannot be had; the text does not show it.
    """
    try:
        if text := settings.environ.get(VARIABLE, ""):
            return Seal(parse_key(text, VARIABLE))
        if file := str(settings.own(_FILE)):
            text = await asyncio.to_thread(Path(file).read_text)
            return Seal(parse_key(text, f"the file {file} ({_FILE})"))
    except (ValueError, OSError) as failure:
        raise KeptError(f"secrets are not kept: {failure}") from failure
    return None
