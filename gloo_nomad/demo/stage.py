"""What both demos share: ports from the environment, one clear line for an error, real answers, the end by Ctrl-C."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gloo_nomad.demo.fetch import Answer, fetch
from gloo_nomad.demo.ports import require_free
from gloo_nomad.demo.processes import ServerError, ServerProcess, wait_until

ROUTE: Final = "/echo/hello"
ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Ports:
    """The ports that a user of a demo sees."""

    http: int
    https: int
    envoy_admin: int
    seconds: float
    """How long the demo runs after its answers; 0 for until Ctrl-C."""


def read_ports() -> Ports:
    """Ports and running time from the environment; raises ``ServerError`` for a port in use or no number."""
    ports = Ports(
        http=_number("HTTP_PORT", 8080),
        https=_number("HTTPS_PORT", 8443),
        envoy_admin=_number("ENVOY_ADMIN_PORT", 19000),
        seconds=float(_number("DEMO_SECONDS", 0)),
    )
    require_free(ports.http, "HTTP", "end what uses it, or choose another: make demo HTTP_PORT=18080")
    require_free(ports.https, "HTTPS", "end what uses it, or choose another: make demo HTTPS_PORT=18443")
    require_free(ports.envoy_admin, "Envoy's admin page", "choose another: make demo ENVOY_ADMIN_PORT=19001")
    return ports


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or int(text) > 65535:
        raise ServerError(f'{name}="{text}" is not a number from 0 to 65535')
    return int(text)


def run_demo(demo: Callable[[ExitStack], None]) -> int:
    """Runs *demo* and stops whatever it put on the stack, also after Ctrl-C and SIGTERM; the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        with ExitStack() as stack:
            demo(stack)
            say("stopping")
    except ServerError as failure:
        say(str(failure), sys.stderr.fileno())
        return 1
    except KeyboardInterrupt:
        say("stopped")
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def say(text: str, stream: int | None = None) -> None:
    """Prints at once, also into a pipe."""
    os.write(sys.stdout.fileno() if stream is None else stream, f"demo: {text}\n".encode())


def show_answers(ports: Ports, authority: Path, watched: Iterable[ServerProcess] = ()) -> None:
    """Asks over HTTP and over HTTPS until both answer, and prints the commands that ask the same.

    *authority* is the PEM file of who signed the certificate. Raises ``ServerError`` with a log if one of *watched*
    ends meanwhile.
    """
    servers = tuple(watched)
    plain = _ask(ports.http, None, servers)
    _show(f"curl http://localhost:{ports.http}{ROUTE}", plain)
    secure = _ask(ports.https, authority, servers)
    _show(f"curl --cacert {authority} https://localhost:{ports.https}{ROUTE}", secure)


def _ask(port: int, authority: Path | None, servers: tuple[ServerProcess, ...]) -> Answer:
    answers: list[Answer] = []

    def is_answered() -> bool:
        require_running(servers)
        answers.append(fetch(port, ROUTE, host="localhost", tls_roots=authority))
        return answers[-1].status == 200

    try:
        wait_until(is_answered, f"an answer with status 200 on port {port}", ANSWER_SECONDS)
    except ServerError as failure:
        last = f"; the last one was {answers[-1].status} {answers[-1].text}" if answers else ""
        raise ServerError(f"{failure}{last}") from None
    return answers[-1]


def _show(command: str, answer: Answer) -> None:
    document = answer.json()
    shown = {name: document[name] for name in ("instance", "method", "path")}
    host = document["headers"].get("host")
    os.write(
        sys.stdout.fileno(), f"\n  $ {command}\n  {answer.status} {json.dumps({**shown, 'host': host})}\n\n".encode()
    )


def show_lines(*lines: str) -> None:
    """Prints commands as a user would type them."""
    text = "".join(f"  $ {line}\n" for line in lines)
    os.write(sys.stdout.fileno(), f"\n{text}\n".encode())


def require_running(servers: Iterable[ServerProcess]) -> None:
    """Raises ``ServerError`` with the last log lines of the first server that ended."""
    for server in servers:
        if not server.running:
            raise ServerError(f"{server.name} ended with code {server.process.returncode}:\n{server.log_tail()}")


def stay(seconds: float, servers: Iterable[ServerProcess]) -> None:
    """Returns after *seconds* (0: never), raises ``ServerError`` when a server ends."""
    watched = tuple(servers)
    deadline = time.monotonic() + seconds if seconds else None
    say(f"running for {seconds:g} s" if seconds else "running until Ctrl-C")
    pause = threading.Event()
    while deadline is None or time.monotonic() < deadline:
        require_running(watched)
        pause.wait(0.5 if deadline is None else max(0.0, min(0.5, deadline - time.monotonic())))
