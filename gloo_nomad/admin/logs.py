"""Logs: structlog in front of the standard library, JSON in production, with a level that changes at run time."""

import logging
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
REDACTED: Final = "<redacted>"
_NOISY: Final = ("uvicorn", "asyncio", "urllib3", "hvac", "grpc", "watchfiles")
_SECRET_KEYS: Final = frozenset({"token", "password", "secret", "authorization", "private_key", "secret_id", "jwt"})


def configure(level_name: str = "info", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Sends all logs to *stream* (standard error); JSON unless a person looks on.

    Raises:
        ValueError: the level's name is not known.
    """
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact_event,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_last_processors(as_json=as_json))
    )
    logging.getLogger().handlers[:] = [handler]
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    set_level(level_name)


def _last_processors(*, as_json: bool) -> list[Processor]:
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if as_json:
        return [remove_meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # The usual formatter shows the values of local variables, tokens among them, and takes seconds for it.
    return [remove_meta, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def level() -> str:
    """The name of the level in force."""
    return logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()


def set_level(name: str) -> None:
    """Changes the level from now on.

    Raises:
        ValueError: the name is not known.
    """
    try:
        chosen = LEVELS[name.lower()]
    except KeyError:
        raise ValueError(f'"{name[:20]}" is no level; known are {", ".join(LEVELS)}') from None
    logging.getLogger().setLevel(chosen)


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The last net: a value under a telling name, or a private key anywhere, does not reach the log."""
    for key, value in event.items():
        if key.lower() in _SECRET_KEYS or (isinstance(value, str) and "PRIVATE KEY--" in value):
            event[key] = REDACTED
    return event
