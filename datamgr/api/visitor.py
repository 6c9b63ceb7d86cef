"""Who a request is from, as the guard before all routes found out."""

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from datamgr.identity import Caller


@dataclass(frozen=True)
class Visitor:
    """Somebody known. `session_id`: of the web session, None for who came with each request.

    `form_token`: what forms must carry; None where the browser adds nothing by itself, so that no
    other page can make it ask. `version`: of what pages show, in the transaction in which the
    session was found; see `datamgr.changes`.
    """

    caller: Caller
    session_id: int | None = None
    form_token: str | None = None
    version: str | None = None


def of(request: Request) -> Visitor | None:
    """Who asks; None for nobody known."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    return found


def page(
    request: Request, template: str, values: dict[str, Any], status: int = 200
) -> HTMLResponse:
    """A page as this visitor sees it: with their name, and with forms that are accepted."""
    render = request.app.state.render
    visitor = of(request)
    text = render(template, values | {"visitor": visitor, "here": request.url.path})
    return HTMLResponse(text, status)
