"""Where a server is, and how to be sure that it is that server."""

import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address as its clients need it. Credentials of the URL are kept apart, so that ``str`` shows none."""

    scheme: str
    host: str
    port: int
    path: str = ""
    """A path in front of every request, without a slash at its end; for ``unix`` the socket's file."""
    username: str = ""
    password: str = ""

    @property
    def is_unix(self) -> bool:
        """Whether the server listens on a socket in the file system."""
        return self.scheme == "unix"

    @property
    def base(self) -> str:
        """What every request's URL begins with."""
        if self.is_unix:
            return "http://localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.is_unix else self.base

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


def parse_address(text: str, port: int, *, secure: bool = False) -> Address:
    """The address in ``host``, ``host:port``, a URL, or ``unix:///file``; *port* is the default one.

    Raises ``ValueError`` that says what is expected, without repeating credentials.
    """
    if text.startswith("unix://"):
        return Address("unix", "", 0, text.removeprefix("unix://"))
    scheme = "https" if secure else "http"
    try:
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        host, written_port = parts.hostname, parts.port
    except ValueError:
        host, written_port, parts = None, None, urlsplit("")
    if not host or any(map(str.isspace, host)) or parts.scheme not in {"http", "https"}:
        raise ValueError("expected host:port, http://host:port, https://host:port or unix:///path as an address")
    return Address(
        parts.scheme,
        host,
        written_port or port,
        parts.path.rstrip("/"),
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


@dataclass(frozen=True, slots=True)
class Tls:
    """What a client checks of a server's certificate, and what it shows of itself. Paths are files on this machine."""

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    """The name in the server's certificate, where it is not the host of the address."""
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """A context for connections; raises ``OSError`` if a file is missing or no certificate."""
        context = ssl.create_default_context(cafile=self.ca_file or None, capath=self.ca_path or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file or None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


NO_TLS: Final = Tls()
"""The system's authorities, and no certificate of one's own."""
