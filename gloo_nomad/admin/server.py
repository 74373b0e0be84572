"""The admin pages as a web application. They are for operators: the address is bound to loopback by default."""

import json
from dataclasses import asdict
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gloo_nomad.admin import dumps
from gloo_nomad.admin.answers import DocumentAnswers
from gloo_nomad.admin.first_page import build_page
from gloo_nomad.admin.metrics import Metrics, is_ready
from gloo_nomad.admin.view import AdminView
from gloo_nomad.api.kinds import KINDS
from gloo_nomad.api.refs import Ref
from gloo_nomad.reports import describe_problem
from gloo_nomad.serving import read_body

MAX_LOGGING_BODY: Final = 4096


def build_app(view: AdminView, metrics: Metrics) -> Starlette:
    """The web application."""
    pages = _Pages(view, metrics)
    return Starlette(
        routes=[
            Route("/", pages.index, methods=["GET"]),
            Route("/metrics", pages.metrics, methods=["GET"]),
            Route("/healthz", pages.health, methods=["GET"]),
            Route("/readyz", pages.readiness, methods=["GET"]),
            Route("/problems", pages.problems, methods=["GET"]),
            Route("/clients", pages.clients, methods=["GET"]),
            Route("/snapshots/config", pages.config, methods=["GET"]),
            Route("/snapshots/proxies", pages.proxies, methods=["GET"]),
            Route("/snapshots/xds", pages.xds, methods=["GET"]),
            Route("/logging", pages.logging, methods=["GET", "PUT"]),
        ],
        exception_handlers={HTTPException: _on_http_error},
    )


async def _on_http_error(_: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)  # noqa: S101  # registered for that class alone
    return JSONResponse({"error": failure.detail}, failure.status_code, headers=failure.headers)


class _Pages:
    """One method for each page."""

    def __init__(self, view: AdminView, metrics: Metrics) -> None:
        self._view = view
        self._metrics = metrics
        self._dump = DocumentAnswers().answer

    async def index(self, _: Request) -> Response:
        return HTMLResponse(build_page(self._view))

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def health(self, _: Request) -> Response:
        sources, kept = self._view.sources(), self._view.last_known()
        since = self._view.degraded_since()
        told: dict[str, Any] = {"status": "degraded" if since else "ok", "degradedSince": since or None}
        told["sources"] = [asdict(source) for source in sources]
        return JSONResponse(told if kept is None else {**told, "lastKnown": asdict(kept)})

    async def readiness(self, _: Request) -> Response:
        waiting = [source.name for source in self._view.sources() if not source.listed]
        if not self._view.published():
            waiting.append("first configuration")
        if self._view.stopping():
            waiting.append("the end of this process")
        ready = is_ready(self._view)
        return JSONResponse({"ready": ready, "waitingFor": waiting}, 200 if ready else 503)

    async def problems(self, _: Request) -> Response:
        return JSONResponse([describe_problem(problem) for problem in self._view.problems()])

    async def clients(self, _: Request) -> Response:
        described = [
            {
                "nodeId": client.node_id,
                "role": client.role,
                "address": client.address,
                "protocol": client.protocol,
                "connectedAt": client.connected_at,
                "types": [dumps.short_name(url) for url in client.types],
                "nacks": client.nacks,
                "lastNack": client.last_nack,
            }
            for client in self._view.clients()
        ]
        return JSONResponse(described)

    async def config(self, request: Request) -> Response:
        query = request.query_params
        kind = query.get("kind", "")
        known = {name.lower(): name for name in (*KINDS, *self._view.snapshot().collections)}
        if kind and kind.lower() not in known:
            raise HTTPException(404, f'no kind "{kind[:60]}"; known are {", ".join(sorted(known.values()))}')
        ref = Ref(query.get("namespace", ""), query.get("name", ""))

        def dump() -> Any:
            snapshot = self._view.snapshot()
            redactor = dumps.redactor_for(snapshot)
            objects = dumps.dump_config(snapshot, redactor, known.get(kind.lower(), ""), ref)
            return {"settings": dumps.dump_message(self._view.settings(), redactor), "objects": objects}

        return await self._dump(dump)

    async def proxies(self, _: Request) -> Response:
        return await self._dump(
            lambda: dumps.dump_proxies(self._view.proxies(), dumps.redactor_for(self._view.snapshot()))
        )

    async def xds(self, request: Request) -> Response:
        query = request.query_params
        role, type_name, name = (query.get(part, "") for part in ("role", "type", "name"))
        if role and role not in self._view.xds():
            raise HTTPException(
                404, f'no role "{role[:200]}"; known are {", ".join(sorted(self._view.xds())) or "none"}'
            )
        if type_name and not dumps.is_type(type_name):
            raise HTTPException(404, f'no type "{type_name[:200]}"; known are {", ".join(dumps.SHORT_NAMES)}')

        def dump() -> Any:
            redactor = dumps.redactor_for(self._view.snapshot())
            return {
                found: dumps.dump_xds(snapshot, redactor, type_name, name)
                for found, snapshot in sorted(self._view.xds().items())
                if role in {"", found}
            }

        return await self._dump(dump)

    async def logging(self, request: Request) -> Response:
        if request.method == "PUT":
            try:
                self._view.set_log_level(await _wanted_level(request))
            except ValueError as failure:
                raise HTTPException(400, str(failure)) from failure
        return JSONResponse({"level": self._view.log_level()})


async def _wanted_level(request: Request) -> str:
    try:
        body = json.loads(await read_body(request, MAX_LOGGING_BODY) or b"null")
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("level"), str):
        raise ValueError('expected a body like {"level": "debug"}')  # noqa: TRY004  # the value is wrong, not a type of ours
    return str(body["level"])
