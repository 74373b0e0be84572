"""Where objects are: Consul KV, as glooctl finds it, or a folder."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from gloo_nomad.cli.errors import CommandError
from gloo_nomad.frontdoor.objects import ObjectStore

if TYPE_CHECKING:
    from gloo_nomad.clients.consul import ConsulClient

DEFAULT_CONSUL: Final = "127.0.0.1:8500"

CONSUL_ADDRESS: Final = typer.Option(
    "", "--consul-address", envvar="CONSUL_HTTP_ADDR", help=f"Consul's address; {DEFAULT_CONSUL} without it."
)
CONSUL_TOKEN: Final = typer.Option("", "--consul-token", envvar="CONSUL_HTTP_TOKEN", help="Consul's ACL token.")
ROOT_KEY: Final = typer.Option("gloo", "--consul-root-key", help="The first part of all keys.")
CONFIG_DIR: Final = typer.Option(
    None, "--config-dir", help="A folder of objects instead of Consul KV.", show_default=False, metavar="DIR"
)


@dataclass(frozen=True, slots=True)
class Place:
    """What the options of a command say."""

    consul_address: str
    consul_token: str
    root_key: str
    config_dir: Path | None

    def __str__(self) -> str:
        if self.config_dir is not None:
            return str(self.config_dir)
        return f"Consul at {self.consul_address or DEFAULT_CONSUL}"


@contextlib.asynccontextmanager
async def opened(place: Place, environ: Mapping[str, str] = os.environ) -> AsyncIterator[ObjectStore]:
    """The store at that place.

    Raises:
        CommandError: the address cannot be read, or the folder does not exist.
    """
    from gloo_nomad.frontdoor.folder_objects import FolderObjects
    from gloo_nomad.frontdoor.kv_objects import KvObjects

    if place.config_dir is not None:
        if not place.config_dir.is_dir():
            state = "is no folder" if place.config_dir.exists() else "does not exist"
            raise CommandError(f"--config-dir: {place.config_dir} {state}")
        yield FolderObjects(place.config_dir)
        return
    async with opened_client(place, environ) as client:
        yield KvObjects(client, place.root_key.strip("/"))


def cannot(failure: Exception, place: Place) -> CommandError:
    """What to say when the store did not do it."""
    from gloo_nomad.clients.http import ForbiddenError
    from gloo_nomad.frontdoor.objects import UnavailableError

    if isinstance(failure.__cause__, ForbiddenError):
        return CommandError(f"{failure}; give a token that may by --consul-token or CONSUL_HTTP_TOKEN")
    if isinstance(failure, UnavailableError) and place.config_dir is None:
        return CommandError(f"{failure}; which Consul is meant is said by --consul-address or CONSUL_HTTP_ADDR")
    return CommandError(str(failure))


@contextlib.asynccontextmanager
async def opened_client(place: Place, environ: Mapping[str, str] = os.environ) -> "AsyncIterator[ConsulClient]":
    """A client of the Consul that is meant.

    Raises:
        CommandError: the address cannot be read.
    """
    from gloo_nomad.app.clients import consul_options
    from gloo_nomad.clients.consul import ConsulClient
    from gloo_nomad.settings import Flags, SettingsError, load_settings

    known = {**environ, "CONSUL_HTTP_TOKEN": place.consul_token} if place.consul_token else dict(environ)
    try:
        settings = load_settings(Flags(consul_address=place.consul_address or DEFAULT_CONSUL), known)
        options = consul_options(settings)
    except SettingsError as failure:
        raise CommandError(str(failure)) from failure
    if options is None:
        raise CommandError("no address of Consul is known: give --consul-address")
    client = ConsulClient(options)
    try:
        yield client
    finally:
        await client.close()
