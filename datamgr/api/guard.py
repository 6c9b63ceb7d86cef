"""What every request passes before its route, and what every answer carries."""

import logging
from collections.abc import Awaitable, Callable

import sqlalchemy as sa
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware

from datamgr.api import auth, login, problems, visitor
from datamgr.api.auth import Access
from datamgr.api.turns import LOOKS, Turns
from datamgr.api.visitor import Visitor
from datamgr.config import Settings
from datamgr.errors import DatamgrError

log = logging.getLogger(__name__)

# A page of names with their ticks; nothing is uploaded.
MAX_FORM_BYTES = 1 << 20

# Style sheets and icons are for everybody: the page that says no needs them.
OPEN_PREFIXES = ("/static/", "/login")

# Nothing is loaded from another host, nothing inline runs, nobody frames the pages.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
        "connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer, with which a browser says of our own forms that their origin is null.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
TLS_HEADERS = {"Strict-Transport-Security": "max-age=31536000"}

Next = Callable[[Request], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Put the guard before all routes; `app.state` has `settings`, `database` and `access`."""
    access: Access = app.state.access
    app.state.turns = Turns()
    app.state.looks = CapacityLimiter(LOOKS)
    headers = SECURITY_HEADERS | (TLS_HEADERS if access.secure else {})

    async def guard(request: Request, call_next: Next) -> Response:
        request.state.visitor = None
        try:
            response = await _answer(request, call_next)
        except DatamgrError as error:
            response = problems.refused(request, error)
        except sa.exc.TimeoutError as error:
            response = problems.busy(request, error)
        except Exception as error:  # noqa: BLE001  else the headers would be missing
            response = problems.unexpected(request, error)
        response.headers.update(headers)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)


async def _answer(request: Request, call_next: Next) -> Response:
    access: Access = request.app.state.access
    settings: Settings = request.app.state.settings
    unfit = _unfit(request, access)
    if unfit is not None:
        return unfit
    if request.url.path.startswith("/static/"):
        return await call_next(request)
    # In threads of their own: what is remembered does not wait for pages that are made.
    looks: CapacityLimiter = request.app.state.looks
    found, recalled = await to_thread.run_sync(_look, request, limiter=looks)
    if recalled is not None:
        return recalled
    if found is None and not request.url.path.startswith(OPEN_PREFIXES):
        return _who_are_you(request, settings)
    cookie = None
    if found is not None and auth.needs_session(request, found):
        cookie, found = await run_in_threadpool(auth.begin, request, found.caller, "proxy")
    request.state.visitor = found
    if request.method not in auth.SAFE_METHODS and _may_be_forged(request, access):
        log.warning("%s %s came from another page", request.method, request.url.path)
        return problems.answer(
            request, 403, "Not allowed", "This was not asked from a page of this application."
        )
    response = await _in_turn(request, call_next, found)
    if cookie is not None:
        access.set_cookie(response, cookie, settings.web.session_s)
    return response


async def _in_turn(request: Request, call_next: Next, found: Visitor | None) -> Response:
    """The answer of the route, once it is this account's turn."""
    if found is None or request.method not in auth.SAFE_METHODS:
        # A form may come slowly, and would keep its place for as long.
        return await call_next(request)
    turns: Turns = request.app.state.turns
    async with turns.of(found.caller.uid):
        return await call_next(request)


def _unfit(request: Request, access: Access) -> Response | None:
    """The answer to what is for another host, or longer than any form of ours."""
    if not auth.is_known_host(request, access):
        return problems.answer(request, 400, "Unknown host", "This address is not served here.")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdecimal() or int(length) > MAX_FORM_BYTES:
        # Before a route that needs no form does what was asked for.
        limit = MAX_FORM_BYTES >> 10
        return problems.answer(request, 413, "Too long", f"A form has at most {limit} KiB.")
    return None


def _look(request: Request) -> tuple[Visitor | None, Response | None]:
    """Who asks, and the page if it is remembered: in one way to another thread and back."""
    found = auth.identify(request)
    request.state.visitor = found
    recalled = request.app.state.recall(request) if request.method == "GET" else None
    return found, recalled


def _may_be_forged(request: Request, access: Access) -> bool:
    known = visitor.of(request)
    by_itself = known is None or known.form_token is not None
    return by_itself and not auth.is_own_page(request, access)


def _who_are_you(request: Request, settings: Settings) -> Response:
    if request.url.path.startswith(problems.API_PREFIX):
        response = problems.answer(request, 401, "Not logged in", login.HOW[settings.web.login])
    else:
        query = f"?{request.url.query}" if request.url.query else ""
        then = request.url.path + query if request.method == "GET" else "/"
        response = visitor.page(request, "login.html", login.values_of(settings, then), 401)
    if settings.web.login == "local":
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
