"""The reference's pages for developers, on port 10010 with ``devMode: true``; the admin address has all of it and more.

``/xds`` lists the roles that are served, ``/xds/{role}`` shows one, ``/api`` the objects that it is made from.
"""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gloo_nomad.admin import dumps
from gloo_nomad.admin.answers import DocumentAnswers
from gloo_nomad.admin.view import AdminView


def build_dev_app(view: AdminView) -> Starlette:
    """The web application."""
    answer = DocumentAnswers().answer

    async def index(_: Request) -> Response:
        return PlainTextResponse("/xds\n/xds/{role}\n/api\n")

    async def roles(_: Request) -> Response:
        return JSONResponse(sorted(view.xds()))

    async def role(request: Request) -> Response:
        snapshot = view.xds().get(request.path_params["role"])
        if snapshot is None:
            raise HTTPException(404, "no such role; /xds lists them")
        return await answer(lambda: dumps.dump_xds(snapshot, dumps.redactor_for(view.snapshot())))

    async def objects(_: Request) -> Response:
        snapshot = view.snapshot()
        return await answer(lambda: dumps.dump_config(snapshot, dumps.redactor_for(snapshot)))

    pages = {"/": index, "/xds": roles, "/xds/{role}": role, "/api": objects}
    return Starlette(routes=[Route(path, page, methods=["GET"]) for path, page in pages.items()])
