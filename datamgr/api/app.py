"""Builds the web application from the features' routers, the pages and the guard before them."""

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware

from datamgr.api import auth, problems
from datamgr.api.auth import Access
from datamgr.config import Settings
from datamgr.db import Database

# Features and pages appear here as strings: the core imports none of them.
ROUTERS = (
    "scanners.routes:router",
    "dashboard.pages:router",
)
ERROR_PAGE = "dashboard.pages:error_page"

# Nothing is loaded from another host, nothing inline runs, nobody frames the pages.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
        "connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Next = Callable[[Request], Awaitable[Response]]


def create_app(settings: Settings, database: Database, access: Access) -> FastAPI:
    """The application over a database that stays open for as long as it serves.

    Every answer, errors included, passes `access` and carries SECURITY_HEADERS.
    """
    app = FastAPI(
        title="datamgr",
        summary="Usage of file systems, projects and people.",
        openapi_url="/api/openapi.json",
        # The documentation pages of FastAPI load their scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.database = database
    problems.install(app, _load(ERROR_PAGE))
    for target in ROUTERS:
        app.include_router(_load(target))

    async def guard(request: Request, call_next: Next) -> Response:
        response = auth.refusal(request, access)
        if response is None:
            try:
                response = await call_next(request)
            except Exception as error:  # noqa: BLE001  else the headers would be missing
                response = problems.unexpected(request, error)
            access.remember(request, response)
        response.headers.update(SECURITY_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)
    return app


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
