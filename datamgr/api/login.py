"""Logging in and out: the page that says how, the link that is good once, the way to a provider."""

import logging
import secrets
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from datamgr import external_ids, identity, sessions
from datamgr.api import auth, oidc, visitor
from datamgr.api.auth import Access
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ForbiddenError, InvalidError, TooManyError

log = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)

STATE = "_login"  # the suffix of the cookie that a login is bound to
ROUND_TRIP_S = 600.0  # what somebody has to type their password at the provider

HOW = {
    "local": "Open the link that `datamgr web` printed when it started, or have a new one printed "
    "by `datamgr identity link`: each is good once.",
    "proxy": "The proxy in front of these pages does not say who you are; log in there.",
    "oidc": "These pages show what you may see, so they need to know who you are.",
}

Text = Annotated[str, Query(max_length=4000, pattern=r"^[^\x00]*$")]


def _limited(request: Request) -> None:
    """Stop whoever tries too often.

    Raises:
        TooManyError: more than `app.LOGINS_A_MINUTE` tries from one address.
    """
    client = auth.client_of(request)
    if not request.app.state.login_limit.admits(client):
        log.warning("too many logins are tried from %s", client)
        raise TooManyError("too many logins were tried from here; wait a minute")


Limited = Depends(_limited)


@router.get("/login", response_class=HTMLResponse)
def login(request: Request, then: Text = "/") -> HTMLResponse:
    """How to log in here."""
    settings: Settings = request.app.state.settings
    return visitor.page(request, "login.html", values_of(settings, then))


def values_of(settings: Settings, then: str) -> dict[str, str]:
    """What the page of logins needs to know; `then`: where to go on."""
    to = quote(local_path(then), safe="")
    how = settings.web.login
    # A link and no redirect: a form may lead to no other host, by form-action of the policy.
    at_proxy = settings.web.proxy_logout_url if how == "proxy" else None
    return {
        "how": how,
        "sentence": HOW[how],
        "provider": settings.oidc.name,
        "to": to,
        "at_proxy": at_proxy or "",
    }


@router.get("/login/link", dependencies=[Limited])
def link(request: Request, ticket: Text = "") -> Response:
    """Log in as whoever runs this, by the link that was printed; it is good once.

    Raises:
        ForbiddenError: it was followed already, or its time is over.
    """
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    _require(settings, "local")
    try:
        with database.transaction() as session:
            told = sessions.take_ticket(session, sessions.LINK, ticket)
    except ForbiddenError as error:
        log.warning("a login by link from %s is refused: %s", auth.client_of(request), error)
        raise ForbiddenError(f"{error}; `datamgr identity link` prints a new one") from None
    caller = identity.by_uid(settings, int(told["uid"]))
    return _logged_in(request, caller, "link", "/")


@router.get("/login/oidc", dependencies=[Limited])
def to_provider(request: Request, then: Text = "/") -> Response:
    """Go to the provider, who sends the browser back.

    Raises:
        UnavailableError: the provider does not answer.
    """
    settings: Settings = request.app.state.settings
    access: Access = request.app.state.access
    _require(settings, "oidc")
    provider: oidc.Provider = request.app.state.provider
    nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    detail = {"nonce": nonce, "verifier": verifier, "then": local_path(then)}
    database: Database = request.app.state.database
    with database.transaction() as session:
        state = sessions.issue_ticket(session, sessions.ROUND_TRIP, detail, ROUND_TRIP_S)
    url = provider.authorization_url(_callback(request), state, nonce, verifier)
    response = RedirectResponse(url, 303)
    # So that nobody can be logged in as somebody else by a link that they were sent.
    access.set_cookie(response, state, ROUND_TRIP_S, suffix=STATE)
    return response


@router.get("/login/callback", dependencies=[Limited])
def from_provider(
    request: Request, state: Text = "", code: Text = "", error: Text = "", iss: Text = ""
) -> Response:
    """Back from the provider: the account of who they say it is.

    Raises:
        ForbiddenError: it is nobody who may log in, or not the answer to a question of ours.
        UnavailableError: the provider does not answer.
    """
    settings: Settings = request.app.state.settings
    access: Access = request.app.state.access
    database: Database = request.app.state.database
    _require(settings, "oidc")
    if not state or request.cookies.get(access.cookie + STATE) != state:
        raise ForbiddenError("this login was not begun in this browser; log in again")
    with database.transaction() as session:
        told = sessions.take_ticket(session, sessions.ROUND_TRIP, state)
    if error or not code:
        log.warning("the provider refused a login: %s", error.encode("unicode_escape").decode())
        raise ForbiddenError("the provider did not log you in; try again, or ask its operators")
    provider: oidc.Provider = request.app.state.provider
    subject, id_token = provider.login(
        code, told["verifier"], told["nonce"], iss, _callback(request)
    )
    with database.transaction(read_only=True) as session:
        username = external_ids.account_of(session, provider.issuer, subject)
    if username is None:
        log.warning("%r of %s has no account here", subject, provider.issuer)
        raise ForbiddenError(
            f"{settings.oidc.name} knows you as {subject}, who has no account here; ask staff to "
            f"give you one by `datamgr identity map {provider.issuer} {subject} ACCOUNT`"
        )
    uid = identity.uid_of(username)
    if uid == 0:
        raise ForbiddenError("nobody logs in as root")
    response = _logged_in(request, identity.by_uid(settings, uid), "oidc", told["then"], id_token)
    access.forget_cookie(response, STATE)
    return response


@router.post("/logout")
def logout(request: Request, form_token: Annotated[str, Form()]) -> Response:
    """End this session, and lead to where the provider's is ended."""
    access: Access = request.app.state.access
    database: Database = request.app.state.database
    known = visitor.of(request)
    if known is not None and known.session_id is not None:
        with database.transaction() as session:
            sessions.log_out(session, known.caller, known.session_id)
    url = _logout_url(request)
    if url is None:
        response: Response = RedirectResponse("/login", 303)
    else:
        request.state.visitor = None
        settings: Settings = request.app.state.settings
        # No redirect: a form may lead to no other host, by form-action of the policy.
        values = {"url": url, "provider": settings.oidc.name}
        response = visitor.page(request, "logout.html", values)
    # Pages that the browser keeps, each to be asked for again. Source: W3C, "Clear Site Data".
    response.headers["Clear-Site-Data"] = '"cache"'
    access.forget_cookie(response)
    return response


def _logout_url(request: Request) -> str | None:
    """Where the provider ends the login by which this session began; None for nowhere."""
    settings: Settings = request.app.state.settings
    access: Access = request.app.state.access
    database: Database = request.app.state.database
    if settings.web.login != "oidc":
        return None
    try:
        with database.transaction() as session:
            cookie = request.cookies.get(access.cookie, "")
            told = sessions.take_ticket(session, sessions.AT_PROVIDER, cookie)
    except ForbiddenError:
        return None
    provider: oidc.Provider = request.app.state.provider
    return provider.logout_url(told["id_token"], f"{access.address(request)}/login")


def local_path(then: str) -> str:
    """Where to go on after a login: never to another host."""
    plain = then.isprintable() and "\\" not in then
    return then if plain and then.startswith("/") and not then.startswith("//") else "/"


def _logged_in(
    request: Request, caller: identity.Caller, method: str, then: str, id_token: str | None = None
) -> Response:
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    cookie, _ = auth.begin(request, caller, method)
    if id_token is not None and settings.oidc.logout:
        told, lifetime_s = {"id_token": id_token}, settings.web.session_s
        with database.transaction() as session:
            sessions.issue_ticket(session, sessions.AT_PROVIDER, told, lifetime_s, cookie)
    response = RedirectResponse(then, 303)
    request.app.state.access.set_cookie(response, cookie, settings.web.session_s)
    log.info("%s logged in by %s", caller.username, method)
    return response


def _callback(request: Request) -> str:
    access: Access = request.app.state.access
    return f"{access.address(request)}/login/callback"


def _require(settings: Settings, how: str) -> None:
    if settings.web.login != how:
        raise InvalidError(f"nobody logs in like this here; web.login is {settings.web.login}")
