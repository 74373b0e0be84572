"""``options``: what can be written, with examples that the tests run."""

from typing import Final

import typer

from gloo_nomad.cli.errors import CommandError
from gloo_nomad.cli.output import FORMAT, Format, print_data, print_table

POSITION: Final = 80


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="[bold]Examples[/bold]\n\ngloo-nomad options\n\ngloo-nomad options retries")(options)


def options(
    name: str = typer.Argument("", metavar="NAME", help="One option; all are listed without it.", show_default=False),
    output: Format = FORMAT,
) -> None:
    """List the options of routes, virtual hosts and listeners, or show one with examples."""
    from gloo_nomad.options import cases

    if name:
        _show(name, output)
        return
    listed = [(found, _first_line(cases.about(found))) for found in cases.option_names()]
    if output is Format.TABLE:
        print_table(("OPTION", "WHAT IT DOES"), listed)
    else:
        print_data([{"name": found, "about": about} for found, about in listed], output)


def _first_line(about: str) -> str:
    return about.splitlines()[0].replace("``", "") if about else ""


def _show(name: str, output: Format) -> None:
    import difflib

    from gloo_nomad.options import cases

    try:
        found = cases.load_cases(name)
    except KeyError:
        close = difflib.get_close_matches(name, cases.option_names(), 1, 0.5)
        meant = f'; did you mean "{close[0]}"?' if close else ";"
        raise CommandError(f'there is no option "{name}"{meant} "gloo-nomad options" lists all') from None
    if output is Format.TABLE:
        print(f"{cases.about(name)}\n")
        print("\n".join(case.render() for case in found))
    else:
        print_data([case.to_document() for case in found], output)
