"""``run``: the daemon."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from gloo_nomad.cli.errors import CommandError

if TYPE_CHECKING:
    from gloo_nomad.settings import Flags

POSITION: Final = 10


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(
        epilog="[bold]Examples[/bold]\n\ngloo-nomad run --config-dir my-objects/ --xds-bind 127.0.0.1:9977\n\n"
        "gloo-nomad run --consul-address 127.0.0.1:8500 --xds-tls dev --xds-tls-folder xds-tls\n\n"
        "gloo-nomad run --dir /etc/gloo --namespace gloo-system --name default --role gloo"
    )(run)


def run(
    *,
    directory: str = typer.Option(
        "", "--dir", metavar="DIR", help="Folder of the Settings file DIR/NAMESPACE/NAME.yaml; not needed."
    ),
    namespace: str = typer.Option("gloo-system", "--namespace", envvar="POD_NAMESPACE", help="Of the Settings."),
    name: str = typer.Option("default", "--name", help="Of the Settings."),
    role: list[str] = typer.Option(
        [], "--role", help="gloo, gateway or discovery; may be repeated. All that the Settings ask for without it."
    ),
    config_dir: str = typer.Option("", "--config-dir", metavar="DIR", help="Read objects from a folder, live."),
    consul_address: str = typer.Option(
        "", "--consul-address", help="Read objects and services from this Consul (variable CONSUL_HTTP_ADDR)."
    ),
    vault_address: str = typer.Option(
        "", "--vault-address", help="Take secrets from this Vault (variable VAULT_ADDR)."
    ),
    xds_bind: str = typer.Option("", "--xds-bind", metavar="HOST:PORT", help="Where Envoys connect; 0.0.0.0:9977."),
    xds_tls: str = typer.Option(
        "", "--xds-tls", metavar="MODE", help="How: files, vault, dev or plaintext; needed but on loopback."
    ),
    xds_tls_folder: str = typer.Option("", "--xds-tls-folder", metavar="DIR", help="Certificates of --xds-tls dev."),
    admin_bind: str = typer.Option(
        "", "--admin-bind", metavar="HOST:PORT", help="Metrics, health, snapshots; 127.0.0.1:9091."
    ),
    front_door_bind: str = typer.Option(
        "", "--front-door-bind", metavar="HOST:PORT", help="REST API of the gateway role; 127.0.0.1:9095."
    ),
    data_dir: str = typer.Option(
        "", "--data-dir", metavar="DIR", help="Keep what is served here, for a start without Consul and Vault."
    ),
    log_level: str = typer.Option("info", "--log-level", envvar="LOG_LEVEL", help="debug, info, warning or error."),
) -> None:
    """Serve Envoys, until SIGTERM or Ctrl-C.

    Objects come from Consul KV or from a folder; flags win over the Settings file, and environment variables fill in
    what neither says.
    """
    from gloo_nomad.app.run import ROLES
    from gloo_nomad.settings import Flags

    _check_arguments(role, ROLES, config_dir)
    flags = Flags(
        directory=directory,
        namespace=namespace,
        name=name,
        consul_address=consul_address,
        vault_address=vault_address,
        config_directory=config_dir,
        xds_bind=xds_bind,
        admin_bind=admin_bind,
        front_door_bind=front_door_bind,
        data_directory=data_dir,
        xds_tls=xds_tls,
        xds_tls_folder=xds_tls_folder,
    )
    _serve(flags, role, log_level)


def _serve(flags: "Flags", roles: list[str], log_level: str) -> None:
    import asyncio

    from gloo_nomad.admin import logs
    from gloo_nomad.app.run import roles_for
    from gloo_nomad.app.run import run as run_app
    from gloo_nomad.serving import ServingError
    from gloo_nomad.settings import SettingsError, load_settings

    try:
        logs.configure(log_level)
        settings = load_settings(flags, os.environ)
        asyncio.run(run_app(settings, roles_for(settings, roles)))
    except (SettingsError, ServingError, ValueError) as failure:
        raise CommandError(str(failure)) from failure
    except BaseExceptionGroup as failures:
        raise _first_cause(failures) from failures


def _check_arguments(roles: Iterable[str], known: Iterable[str], config_dir: str) -> None:
    unknown = sorted(set(roles) - set(known))
    if unknown:
        raise CommandError(f'there is no role "{unknown[0]}"; known are {", ".join(known)}')
    if config_dir and not Path(config_dir).is_dir():
        reason = f"{config_dir} is no folder" if Path(config_dir).exists() else f"there is no folder {config_dir}"
        raise CommandError(f"--config-dir: {reason}; create it, or correct the path")


def _first_cause(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the daemon: one line for what people can mend, the failure itself for a defect."""
    from gloo_nomad.serving import ServingError
    from gloo_nomad.settings import SettingsError

    causes = list(_leaves(failures))
    for cause in causes:
        if isinstance(cause, (SettingsError, ServingError, OSError)):
            return CommandError(str(cause))
    return causes[0]


def _leaves(failures: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _leaves(failure)
        else:
            yield failure
