"""``validate`` and ``translate``: work on files, need no server."""

import sys
from pathlib import Path
from typing import Final

import typer

from gloo_nomad.cli.errors import FAILED, CommandError
from gloo_nomad.cli.output import FORMAT, Format, named, print_data, print_problems, print_table, summary
from gloo_nomad.reports import describe_problem, is_rejected

POSITION: Final = 20
_PATHS: Final = typer.Argument(
    metavar="PATH",
    help="Files and folders: <plural>/<namespace>/<name>.yaml, the tree of Consul keys, or loose files; "
    "- is standard input.",
)


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(
        epilog="[bold]Examples[/bold]\n\ngloo-nomad validate consul-kv-seed/\n\n"
        "gloo-nomad validate routes.yaml -o json | jq '.problems[].message'"
    )(validate)
    app.command(
        epilog="[bold]Examples[/bold]\n\ngloo-nomad translate consul-kv-seed/\n\n"
        "gloo-nomad translate routes.yaml --type routes -o json"
    )(translate)


def validate(paths: list[Path] = _PATHS, output: Format = FORMAT) -> None:
    """Say what is wrong with files. Exit code 1 if there are errors, 0 if there are only warnings."""
    from gloo_nomad.cli.offline import translate_paths

    result = translate_paths(paths)
    if output is Format.TABLE:
        print_problems(result.problems, output)
        print(summary(result.problems, len(result.documents)))
    else:
        problems = [describe_problem(problem) for problem in result.problems]
        print_data({"objects": len(result.documents), "problems": problems}, output)
    if is_rejected(result.problems):
        raise typer.Exit(FAILED)


def translate(
    paths: list[Path] = _PATHS,
    output: Format = typer.Option(Format.YAML, "--output", "-o", help="json or yaml; table only counts."),
    role: str = typer.Option("", "--role", help="Only this role: <namespace>~<proxy>."),
    type_name: str = typer.Option(
        "", "--type", help="Only this type: clusters, endpoints, listeners, routes or secrets.", show_default=False
    ),
) -> None:
    """Print what Envoy would be served for files, secrets redacted. Problems go to standard error."""
    from gloo_nomad.admin import dumps
    from gloo_nomad.cli.offline import translate_paths

    if type_name and not dumps.is_type(type_name):
        raise CommandError(f'there is no type "{type_name}"; known are {", ".join(dumps.SHORT_NAMES)}')
    result = translate_paths(paths)
    if role and role not in result.xds:
        raise CommandError(f'nothing is served to the role "{role}"; known are {", ".join(sorted(result.xds))}')
    redactor = dumps.redactor_for(result.snapshot)
    chosen = {found: xds for found, xds in sorted(result.xds.items()) if role in {"", found}}
    dumped = {found: dumps.dump_xds(xds, redactor, type_name) for found, xds in chosen.items()}
    if output is Format.TABLE:
        counts = [(found, name, str(len(held))) for found, types in dumped.items() for name, held in types.items()]
        print_table(("ROLE", "TYPE", "COUNT"), counts)
    else:
        print_data(dumped, output)
    for problem in result.problems:
        print(f"{problem.severity.name.lower()}: {named(problem.ref)}: {problem}", file=sys.stderr)
    if is_rejected(result.problems):
        raise typer.Exit(FAILED)
