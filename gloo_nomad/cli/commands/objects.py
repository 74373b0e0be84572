"""``get``, ``apply`` and ``delete``: objects where they are kept, in Consul KV or in a folder."""

import asyncio
from pathlib import Path
from typing import Final

import typer

from gloo_nomad.api.kinds import KINDS, SECRET, Kind
from gloo_nomad.cli.errors import FAILED, CommandError
from gloo_nomad.cli.output import FORMAT, Format, named, print_data, print_problems, print_table
from gloo_nomad.cli.place import CONFIG_DIR, CONSUL_ADDRESS, CONSUL_TOKEN, ROOT_KEY, Place

POSITION: Final = 30
DEFAULT_NAMESPACE: Final = "gloo-system"
_KIND: Final = typer.Argument(
    metavar="KIND", help="A kind, its plural or short name (vs, us, rt, ug, gw, ac, rlc ...), or all."
)
_PATHS: Final = typer.Argument(metavar="PATH", help="Files and folders, as for validate.")


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(
        epilog="[bold]Examples[/bold]\n\ngloo-nomad get vs\n\ngloo-nomad get upstream echo -o yaml\n\n"
        "gloo-nomad get all --config-dir my-objects/"
    )(get)
    app.command(
        epilog="[bold]Examples[/bold]\n\ngloo-nomad apply consul-kv-seed/\n\ngloo-nomad apply routes.yaml --dry-run"
    )(apply)
    app.command(epilog="[bold]Example[/bold]  gloo-nomad delete vs default -n gloo-system")(delete)


def get(
    kind: str = _KIND,
    name: str = typer.Argument("", metavar="NAME", help="One object; all are listed without it.", show_default=False),
    *,
    namespace: str = typer.Option(
        "", "--namespace", "-n", help=f"All namespaces without it; for one object {DEFAULT_NAMESPACE}."
    ),
    output: Format = FORMAT,
    consul_address: str = CONSUL_ADDRESS,
    consul_token: str = CONSUL_TOKEN,
    root_key: str = ROOT_KEY,
    config_dir: Path | None = CONFIG_DIR,
) -> None:
    """List objects with their status, or print them."""
    from gloo_nomad.cli import listing

    place = Place(consul_address, consul_token, root_key, config_dir)
    if kind == "all" and name:
        raise CommandError(f'"all" takes no name; say of which kind {name} is: gloo-nomad get vs {name}')
    kinds = listing.storable_kinds() if kind == "all" else (_kind(kind),)
    found = asyncio.run(listing.fetch(place, kinds, namespace, name))
    if name and not found:
        raise CommandError(f"there is no {kinds[0].name} {namespace or DEFAULT_NAMESPACE}.{name} in {place}")
    if output is Format.TABLE:
        listing.print_objects(found, with_kind=len(kinds) > 1, with_status=config_dir is None)
        return
    documents, broken = listing.describe(found)
    print_data(documents[0] if name and documents else documents, output)
    for line in broken:
        typer.echo(line, err=True)
    if broken:
        raise typer.Exit(FAILED)


def apply(
    paths: list[Path] = _PATHS,
    *,
    dry_run: bool = typer.Option(False, "--dry-run", help="Validate, and say what would be written."),
    force: bool = typer.Option(False, "--force", help="Write although there are errors."),
    output: Format = FORMAT,
    consul_address: str = CONSUL_ADDRESS,
    consul_token: str = CONSUL_TOKEN,
    root_key: str = ROOT_KEY,
    config_dir: Path | None = CONFIG_DIR,
) -> None:
    """Validate objects together with those that are stored, and write them by compare-and-set.

    Nothing is written if there are errors. Statuses of stored objects stay.
    """
    from gloo_nomad.cli.offline import read_documents
    from gloo_nomad.cli.writing import Applied, apply_documents

    place = Place(consul_address, consul_token, root_key, config_dir)
    documents = read_documents(paths)
    result: Applied = asyncio.run(apply_documents(place, documents, dry_run=dry_run, force=force))
    if output is Format.TABLE:
        print_problems(result.problems, output)
        if result.outcomes:
            print_table(("OBJECT", "RESULT"), [(named(ref), outcome) for ref, outcome in result.outcomes])
    else:
        print_data(result.describe(), output)
    if not result.succeeded:
        raise CommandError(result.conclusion())


def delete(
    kind: str = typer.Argument(metavar="KIND", help="A kind, its plural or short name, as for get."),
    name: str = typer.Argument(metavar="NAME", help="The object's name."),
    *,
    namespace: str = typer.Option(DEFAULT_NAMESPACE, "--namespace", "-n", help="The object's namespace."),
    ignore_missing: bool = typer.Option(False, "--ignore-missing", help="Succeed if there is no such object."),
    consul_address: str = CONSUL_ADDRESS,
    consul_token: str = CONSUL_TOKEN,
    root_key: str = ROOT_KEY,
    config_dir: Path | None = CONFIG_DIR,
) -> None:
    """Delete an object."""
    from gloo_nomad.cli.writing import delete_object

    place = Place(consul_address, consul_token, root_key, config_dir)
    found = _kind(kind)
    deleted = asyncio.run(delete_object(place, found, namespace, name))
    if not deleted and not ignore_missing:
        raise CommandError(f"there is no {found.name} {namespace}.{name} in {place}")
    print(f"{found.name} {namespace}.{name} {'deleted' if deleted else 'was not there'}")


def _kind(name: str) -> Kind:
    from gloo_nomad.frontdoor.naming import ALIASES, kind_named
    from gloo_nomad.frontdoor.objects import NOT_STORED

    kind = kind_named(name)
    if kind is None:
        stored = ", ".join(kind.name for kind in KINDS.values() if kind not in NOT_STORED)
        raise CommandError(f'"{name}" is no kind; known are {stored}, in short {", ".join(ALIASES)}')
    if kind in NOT_STORED:
        where = "it is in Vault or in a folder" if kind is SECRET else "service discovery finds it"
        raise CommandError(f"a {kind.name} is not kept with the configuration: {where}")
    return kind
