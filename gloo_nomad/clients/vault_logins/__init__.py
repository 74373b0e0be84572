"""How a token is got from Vault by a login. One module for each method, found by walking this package.

A module has ``METHOD``, the ``MOUNT`` where Vault has it by default, ``PLAIN`` and ``SECRET`` (the names of its values;
a secret one is read from ``<name>File`` or from the variable given here), ``REQUIRED``, and ``log_in``, which blocks
and gives Vault's answer.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from gloo_nomad.clients.http import UnreachableError

FILE: Final = "File"
_GENERAL: Final = ("method", "mountPath")


class LoginMistakeError(ValueError):
    """What is written about a login cannot be used; the text names the field and what helps, and no value."""


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """One way to log in. Files are read at each login: whoever rotates a credential rotates its file."""

    method: str
    mount: str
    values: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    increment: int = 0
    """Seconds that a renewal asks for; 0 leaves it to Vault."""

    def get(self, name: str) -> str:
        """A value, empty if there is none. Raises ``UnreachableError`` for a file that cannot be read."""
        if name not in self.files:
            return self.values.get(name, "")
        try:
            return Path(self.files[name]).read_text().strip()
        except (OSError, UnicodeDecodeError) as failure:
            reason = failure.strerror if isinstance(failure, OSError) else "is not text"
            raise UnreachableError(f"login by {self.method}: {name}{FILE} {self.files[name]}: {reason}") from None

    def run(self, api: Any) -> Mapping[str, Any]:
        """Logs in, in this thread; what Vault says of the token."""
        auth: Mapping[str, Any] = login_methods()[self.method].log_in(api, self)["auth"]
        return auth

    def __repr__(self) -> str:
        return f"Login({self.method} at {self.mount})"


@cache
def login_methods() -> Mapping[str, ModuleType]:
    """The modules of this package by their method."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {module.METHOD: module for module in modules}


def parse_login(written: Mapping[str, Any], environ: Mapping[str, str]) -> Login:
    """The login that a map of settings describes. Raises ``LoginMistakeError``."""
    method = written.get("method", "")
    if method not in login_methods():
        raise LoginMistakeError(f"method: {str(method)[:40]!r} is not known; use {', '.join(login_methods())}")
    module = login_methods()[method]
    files = {f"{name}{FILE}": name for name in module.SECRET}
    for name, value in written.items():
        if name in module.SECRET and name not in module.PLAIN:
            raise LoginMistakeError(f"{name}: is a secret and does not belong into settings; give {name}{FILE}")
        if name not in (*_GENERAL, *module.PLAIN, *files):
            known = ", ".join((*_GENERAL, *module.PLAIN, *files))
            raise LoginMistakeError(f"{name}: is not known to the method {method}; known are {known}")
        if not isinstance(value, str):
            raise LoginMistakeError(f"{name}: is to be text")
    values = {name: environ[variable] for name, variable in module.SECRET.items() if environ.get(variable)}
    values |= {name: written[name] for name in module.PLAIN if written.get(name)}
    paths = {**getattr(module, "FILES", {}), **{files[name]: written[name] for name in files if written.get(name)}}
    return check_login(Login(method, written.get("mountPath") or module.MOUNT, values, paths))


def check_login(login: Login) -> Login:
    """The login itself; raises ``LoginMistakeError`` if something is missing that it needs."""
    module = login_methods()[login.method]
    for name in module.REQUIRED:
        if name not in login.values and name not in login.files:
            ways = [name] if name in module.PLAIN else []
            if name in module.SECRET:
                ways += [f"{name}{FILE}", *filter(None, [module.SECRET[name]])]
            raise LoginMistakeError(f"{name}: is missing; give {' or '.join(ways)}")
    return login
