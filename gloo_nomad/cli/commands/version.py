"""``version``: what runs here."""

from typing import Final

import typer

from gloo_nomad.cli.output import FORMAT, Format, print_data

POSITION: Final = 90


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="[bold]Example[/bold]  gloo-nomad version -o json")(version)


def version(output: Format = FORMAT) -> None:
    """Print the versions of gloo-nomad, Python and the libraries that matter."""
    import platform
    from importlib import metadata

    from gloo_nomad import __version__

    libraries = {name: metadata.version(name) for name in ("grpcio", "protobuf", "xds-protos")}
    if output is Format.TABLE:
        versions = {"gloo-nomad": __version__, "python": platform.python_version(), **libraries}
        print("\n".join(f"{name} {found}" for name, found in versions.items()))
        return
    print_data({"version": __version__, "python": platform.python_version(), "libraries": libraries}, output)
