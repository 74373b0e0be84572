"""Pages of the front door that need no authorisation: health, and the description of the API."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


@cache
def openapi() -> dict[str, Any]:
    """The API's description."""
    text = (Path(__file__).parent / "openapi.yaml").read_text()
    described: dict[str, Any] = yaml.safe_load(text)
    return described


async def _answer_health(_: Request) -> Response:
    return PlainTextResponse("OK\n")


async def _answer_openapi(_: Request) -> Response:
    return JSONResponse(openapi())


async def _answer_docs(_: Request) -> Response:
    lines = [openapi()["info"]["title"], "", openapi()["info"]["description"].strip(), ""]
    for path, operations in openapi()["paths"].items():
        lines.extend(
            f"{method.upper():7}{path:44}{operation['summary']}"
            for method, operation in operations.items()
            if method != "parameters"
        )
    lines += ["", "The whole description: /openapi.json"]
    return PlainTextResponse("\n".join(lines) + "\n")


ROUTES: Final = (
    Route("/healthz", _answer_health, methods=["GET"]),
    Route("/openapi.json", _answer_openapi, methods=["GET"]),
    Route("/docs", _answer_docs, methods=["GET"]),
    Route("/", _answer_docs, methods=["GET"]),
)
