"""One HTTP request to a server on this machine, with the host name, the TLS roots and the port chosen apart."""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """What came back. ``certificate`` is the server's, in DER, over TLS."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    certificate: bytes = field(default=b"", repr=False)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Connection:
    """A kept-open connection to a port of loopback; a context manager that closes it.

    With *tls_roots* (a PEM file) it speaks TLS and checks the certificate for *host*. Failures are ``OSError``; a
    connection that the other side closed is not opened again.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        tls_roots: Path | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.host = host
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._certificate = b""
        if tls_roots is not None:
            context = ssl.create_default_context(cafile=str(tls_roots))
            plain = socket.create_connection(("127.0.0.1", port), timeout=timeout)
            secured = context.wrap_socket(plain, server_hostname=host)
            self._connection.sock = secured
            self._certificate = secured.getpeercert(binary_form=True) or b""
        else:
            self._connection.connect()
        self._connection.auto_open = 0

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Sends one request and reads its whole answer."""
        sent = {"Host": self.host, **(headers or {})}
        try:
            with suppress(BrokenPipeError):  # a server may refuse a body, and say so, before it has read all of it
                self._connection.request(method, path, body=body, headers=sent)
            response = self._connection.getresponse()
            content = response.read()
        except http.client.HTTPException as failure:
            raise ConnectionError(f"{method} {path}: {failure!r}") from failure
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, content, self._certificate)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fetch(
    port: int,
    path: str = "/",
    *,
    host: str = "127.0.0.1",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    tls_roots: Path | None = None,
    timeout: float = 10.0,
) -> Answer:
    """One request on a connection of its own; a failure of the network is an ``OSError``."""
    with Connection(port, host=host, tls_roots=tls_roots, timeout=timeout) as connection:
        return connection.request(path, method=method, headers={"Connection": "close", **(headers or {})}, body=body)
