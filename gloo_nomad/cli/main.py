"""The entry point: finds the verbs, and turns every end into an exit code and at most one line."""

import importlib
import os
import pkgutil
import sys
from types import ModuleType
from typing import Final

import typer
from typer.exceptions import TyperException

from gloo_nomad import __version__
from gloo_nomad.cli import commands
from gloo_nomad.cli.errors import BROKEN, INTERRUPTED, CommandError

DEBUG: Final = "GLOO_NOMAD_DEBUG"
"""Environment variable behind ``--debug``."""

_HELP: Final = """
An API gateway for Consul, Nomad and Vault: serves Gloo Edge's objects to stock Envoy.
"""
_EPILOG: Final = """
[bold]First steps[/bold]

gloo-nomad validate my-objects/   [dim]what is wrong with these files?[/dim]

gloo-nomad run --config-dir my-objects/ --xds-bind 127.0.0.1:9977   [dim]serves a folder to Envoys[/dim]

gloo-nomad bootstrap > envoy.yaml   [dim]what such an Envoy is started with: envoy -c envoy.yaml[/dim]

gloo-nomad get vs   [dim]virtual services in Consul KV, with their status[/dim]
"""


def build_app(verb: str = "") -> typer.Typer:
    """The command with all verbs; with those of one module if that is named like *verb*, which starts sooner."""
    app = typer.Typer(
        name="gloo-nomad",
        help=_HELP,
        epilog=_EPILOG,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _options(
        *,
        debug: bool = typer.Option(False, "--debug", envvar=DEBUG, help="Show tracebacks of unexpected failures."),
        _version: bool = typer.Option(False, "--version", help="Print the version and exit.", callback=_print_version),
    ) -> None:
        if debug:
            os.environ[DEBUG] = "true"

    for module in _modules(verb):
        module.register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gloo-nomad {__version__}")
        raise typer.Exit


def _modules(verb: str) -> list[ModuleType]:
    """The modules with verbs, in the order of the help. Importing them all takes half a second of a processor."""
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    wanted = [verb] if verb in names else names
    found = [importlib.import_module(f"{commands.__name__}.{name}") for name in wanted]
    return sorted(found, key=lambda module: (module.POSITION, module.__name__))


def main() -> None:
    """Runs the command line and exits."""
    arguments = sys.argv[1:] or ["--help"]
    try:
        sys.exit(build_app(arguments[0])(arguments, prog_name="gloo-nomad", standalone_mode=False))
    except TyperException as failure:
        _say(_misuse(failure))
        sys.exit(failure.exit_code)
    except CommandError as failure:
        _say(str(failure))
        sys.exit(failure.code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: say nothing more
        sys.exit(0)
    except Exception as failure:
        if os.environ.get(DEBUG):
            raise
        _say(f"unexpected {type(failure).__name__}: {_first_line(failure)} (gloo-nomad --debug ... shows where)")
        sys.exit(BROKEN)


def _say(text: str) -> None:
    print(f"gloo-nomad: {text}", file=sys.stderr)


def _misuse(failure: TyperException) -> str:
    """What is wrong with the command line, and how it is to be."""
    said = " ".join(failure.format_message().replace("Value error, ", "").split()).removesuffix(".")
    context = getattr(failure, "ctx", None)
    if context is None:
        return said
    usage = " ".join(context.get_usage().split())
    said += "" if said.endswith("?") else ";"
    return f"{said} {usage[:1].lower()}{usage[1:]}, and {context.command_path} --help explains it"


def _first_line(failure: BaseException) -> str:
    lines = str(failure).strip().splitlines()
    return lines[0][:300] if lines else "no message"
