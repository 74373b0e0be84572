"""The first admin page, for people: how the process is, what is wrong, and where to read more."""

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from gloo_nomad import __version__
from gloo_nomad.admin.metrics import is_ready
from gloo_nomad.admin.view import AdminView, Client, SourceState
from gloo_nomad.reports import Problem, Severity

MAX_PROBLEMS: Final = 20
"""So many stand on the page, errors first; ``/problems`` has all."""

_LINKS: Final = (
    ("/metrics", "metrics for Prometheus"),
    ("/healthz", "the state of each source; 200 while the process works"),
    ("/readyz", "200 from the first complete configuration on, until this process is told to stop"),
    ("/problems", "what is wrong with which object"),
    ("/clients", "connected Envoys and what they rejected"),
    ("/snapshots/config", "all objects; ?kind=VirtualService&namespace=...&name=..."),
    ("/snapshots/proxies", "proxies, between the two halves of the translation"),
    ("/snapshots/xds", "what Envoys are served; ?role=...&type=clusters&name=..."),
    ("/logging", 'the log level; PUT {"level": "debug"} changes it'),
)


class Fact(NamedTuple):
    """A line of the page; *level* is its colour: ``bad``, ``warn`` or none, and the text says the same."""

    name: str
    told: str
    level: str = ""
    link: str = ""


def build_page(view: AdminView) -> str:
    """The page as HTML. Everything on it that comes from outside is escaped."""
    facts = "".join(_row(fact) for fact in _facts(view))
    problems = "".join(_row(fact) for fact in _problems(view.problems()))
    links = "".join(
        f'<tr><td><a href="{path}">{path}</a></td><td>{html.escape(text)}</td></tr>' for path, text in _LINKS
    )
    table = f"<h2>Problems</h2>\n<table>{problems}</table>" if problems else ""
    return _PAGE.format(version=html.escape(__version__), facts=facts, problems=table, links=links)


def _facts(view: AdminView) -> Iterator[Fact]:
    ready = is_ready(view)
    yield Fact("state", "ready" if ready else "not ready", "" if ready else "bad", "/readyz")
    yield _count_problems(view.problems())
    yield _count_clients(view.clients())
    yield Fact("log level", view.log_level(), "", "/logging")
    for source in view.sources():
        yield _of_source(source)
    kept = view.last_known()
    if kept is not None and (kept.since or kept.failure):
        told = "served as it was kept on disk: " + ", ".join(kept.sources) if kept.since else ""
        yield Fact("last known", "; ".join(filter(None, (told, kept.failure))), "warn", "/healthz")


def _count_problems(problems: Sequence[Problem]) -> Fact:
    errors = sum(problem.severity >= Severity.ERROR for problem in problems)
    level = "bad" if errors else ("warn" if problems else "")
    told = f"{_counted(errors, 'error')}, {_counted(len(problems) - errors, 'warning')}"
    return Fact("problems", told, level, "/problems")


def _count_clients(clients: Sequence[Client]) -> Fact:
    rejecting = sum(bool(client.last_nack) for client in clients)
    if rejecting:
        return Fact("connected Envoys", f"{len(clients)}, {rejecting} of them rejecting", "bad", "/clients")
    return Fact("connected Envoys", str(len(clients)), "" if clients else "warn", "/clients")


def _of_source(source: SourceState) -> Fact:
    name = f"source {source.name}"
    if source.error:
        return Fact(name, f"fails: {source.error}", "bad", "/healthz")
    return Fact(name, "listed" if source.listed else "not listed yet", "" if source.listed else "warn", "/healthz")


def _problems(problems: Iterable[Problem]) -> Iterator[Fact]:
    worst = sorted(problems, key=lambda problem: -problem.severity)
    for problem in worst[:MAX_PROBLEMS]:
        yield Fact(str(problem.ref), str(problem), "bad" if problem.severity >= Severity.ERROR else "warn")
    if len(worst) > MAX_PROBLEMS:
        yield Fact("and", f"{len(worst) - MAX_PROBLEMS} more", "", "/problems")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _row(fact: Fact) -> str:
    name = html.escape(fact.name)
    shown = f'<a href="{fact.link}">{name}</a>' if fact.link else name
    return f'<tr><th>{shown}</th><td class="{fact.level}">{html.escape(fact.told)}</td></tr>'


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gloo-nomad</title>
<meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark; --line: #ddd; --bad: #b3261e; --warn: #8a5a00 }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #444; --bad: #ff8a80; --warn: #ffc46b }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h2 {{ font-size: 1.1rem; margin-bottom: .3rem }}
table {{ border-collapse: collapse; width: 100%; margin-bottom: 2rem }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line) }}
th, td:first-child {{ width: 14rem; overflow-wrap: anywhere }}
th {{ font-weight: 600 }}
td {{ overflow-wrap: anywhere }}
th a {{ color: inherit }}
.bad {{ color: var(--bad) }}
.warn {{ color: var(--warn) }}
</style></head>
<body><h1>gloo-nomad {version}</h1>
<table>{facts}</table>
{problems}
<table>{links}</table>
</body></html>
"""
