"""Format strings, as in values of added headers: text with commands such as ``%REQ(x-id)%`` in it.

Envoy's parser is https://www.envoyproxy.io/docs/envoy/latest/configuration/advanced/substitution_formatter; ``%%`` is a
percent sign. A string that it cannot read makes it refuse the whole RouteConfiguration.
"""

import re
from functools import lru_cache
from typing import Final

from gloo_nomad.acceptance.commands import COMMANDS, HEADER_COMMANDS, LOG_COMMANDS
from gloo_nomad.acceptance.headers import name_fault
from gloo_nomad.acceptance.quoting import quote

_COMMAND: Final = re.compile(r"%([A-Z0-9_]+)(?:\((.*?)\))?(?::([0-9]{1,18}))?%")


@lru_cache(maxsize=4096)
def format_fault(text: str, *, log: bool = False) -> str:
    """Why Envoy would refuse the format string *text*, or ""; *log* allows the commands of access logs as well."""
    position = text.find("%")
    while position >= 0:
        if text.startswith("%%", position):
            position += 2
        else:
            found = _COMMAND.match(text, position)
            if found is None:
                return f"has a % at position {position} that begins no command; write %% for a percent sign"
            if fault := _command_fault(found[1], found[2] or "", found[3], log):
                return fault
            position = found.end()
        position = text.find("%", position)
    return ""


def _command_fault(name: str, argument: str, length: str | None, log: bool) -> str:
    command = COMMANDS.get(name) or (LOG_COMMANDS.get(name) if log else None)
    if command is None:
        return f"has the command {quote(name)}, which does not exist or cannot be checked beforehand"
    if argument and not command.argument:
        return f"gives %{name}% an argument, which it does not take"
    if not argument and command.argument_required:
        return f"gives %{name}% no argument; write %{name}(...)%"
    if length is not None and not command.length:
        return f"gives %{name}% a length, which it does not take"
    if name in HEADER_COMMANDS or name in LOG_COMMANDS:
        return _header_argument_fault(name, argument)
    if argument and command.form and not re.fullmatch(command.form, argument):
        return f"gives %{name}% the argument {quote(argument)}, which has to look like {command.form}"
    return ""


def _header_argument_fault(name: str, argument: str) -> str:
    main, _, alternative = argument.partition("?")
    for header in (main, alternative):
        if header and name_fault(header, pseudo=True):
            return f"names the header {quote(header)} in %{name}(...)%, which cannot exist"
    return ""
