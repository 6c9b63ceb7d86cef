"""How failures leave over HTTP: RFC 9457 problem+json from the API, a page elsewhere."""

import logging
from http import HTTPStatus

import sqlalchemy as sa
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from datamgr.api import visitor
from datamgr.errors import DatamgrError, InvalidError, UnavailableError

log = logging.getLogger(__name__)

API_PREFIX = "/api/"


class Problem(JSONResponse):
    """A problem detail. Source: RFC 9457."""

    media_type = "application/problem+json"


def install(app: FastAPI) -> None:
    """Answer every failure of the application."""
    app.add_exception_handler(DatamgrError, refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(sa.exc.DataError, _out_of_range)
    app.add_exception_handler(sa.exc.TimeoutError, busy)
    app.add_exception_handler(HTTPException, _http)


def answer(request: Request, status: int, title: str, detail: str) -> Response:
    """The failure as this caller reads it."""
    if request.url.path.startswith(API_PREFIX):
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        return Problem(body, status)
    values = {"status": status, "title": title, "detail": detail}
    return visitor.page(request, "error.html", values, status)


def unexpected(request: Request, error: Exception) -> Response:
    """A defect of ours: the log gets the traceback, the caller a sentence without details."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(
        request, 500, "Failed", "Something went wrong in datamgr; its log says what. Try again."
    )


def refused(request: Request, error: Exception) -> Response:
    """An error that says in its sentence what to do."""
    assert isinstance(error, DatamgrError)  # noqa: S101  what the handler is registered for
    if isinstance(error, UnavailableError):
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return answer(request, error.status, error.title, str(error))


def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return answer(request, InvalidError.status, InvalidError.title, f"{where}: {first['msg']}")


def _out_of_range(request: Request, error: Exception) -> Response:
    """A number that the database's type does not hold."""
    return answer(request, InvalidError.status, InvalidError.title, "a value is out of range")


def busy(request: Request, error: Exception) -> Response:
    """No connection to the database became free."""
    log.warning("%s %s: %s", request.method, request.url.path, error)
    return answer(
        request, UnavailableError.status, UnavailableError.title, "too many requests; try again"
    )


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    title = HTTPStatus(error.status_code).phrase.capitalize()
    detail = "There is nothing at this address." if error.status_code == 404 else error.detail
    response = answer(request, error.status_code, title, detail)
    response.headers.update(error.headers or {})
    return response
