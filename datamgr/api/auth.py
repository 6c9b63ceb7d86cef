"""Who may use the web application: who is asked for, from where, and who asks.

Every account of a machine reaches its loopback ports, so the port alone protects nothing.
"""

import hashlib
import hmac
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request, Response

from datamgr import changes, identity, sessions
from datamgr.api import visitor
from datamgr.api.visitor import Visitor
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ForbiddenError, NotFoundError
from datamgr.identity import Caller
from datamgr.sessions import Origin

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, not bound to
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
API_PREFIX = "/api/"


@dataclass(frozen=True)
class Access:
    """The token of programs, and the names under which the application is asked for.

    `public_url`: where browsers find it, None for any of `hosts` without TLS.
    """

    token: str
    hosts: frozenset[str] = LOOPBACK_HOSTS
    public_url: str | None = None

    @property
    def secure(self) -> bool:
        """Whether browsers come by TLS alone."""
        return (self.public_url or "").startswith("https://")

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies ignore ports: installations on one host need their own.

        Source: draft-ietf-httpbis-rfc6265bis, "__Host-": a browser takes it by TLS alone.
        """
        name = f"datamgr_{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"
        return f"__Host-{name}" if self.secure else name

    def is_token(self, given: str) -> bool:
        """Whether it is the token, found out in a time that tells nothing."""
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def set_cookie(
        self, response: Response, value: str, lifetime_s: float, *, suffix: str = ""
    ) -> None:
        """Hand the browser a secret that no script reads and no other site makes it use to change.

        Lax: a link in a mail still finds who follows it logged in; forms have a token.
        """
        response.set_cookie(
            self.cookie + suffix,
            value,
            max_age=int(lifetime_s),
            httponly=True,
            samesite="lax",
            secure=self.secure,
        )

    def forget_cookie(self, response: Response, suffix: str = "") -> None:
        """Take it away again."""
        response.delete_cookie(
            self.cookie + suffix, httponly=True, samesite="lax", secure=self.secure
        )

    def address(self, request: Request) -> str:
        """Where the browser that asks finds this application, without a path."""
        return self.public_url or f"http://{request.headers.get('host', '').lower()}"


def of_settings(settings: Settings, token: str, host: str) -> Access:
    """As it is configured, for an application that listens on `host`."""
    hosts = allowed_hosts(host)
    if settings.web.public_url is not None:
        hosts |= {(urlsplit(settings.web.public_url).hostname or "").lower()}
    return Access(token, hosts, settings.web.public_url)


def is_known_host(request: Request, access: Access) -> bool:
    """Whether the application is asked for by a name of its own.

    Else a web site could point its own name at this address and read what we answer.
    """
    return _host(request) in access.hosts


def is_own_page(request: Request, access: Access) -> bool:
    """Whether a request that changes something comes from a page of this application.

    Source: OWASP, "Cross-Site Request Forgery Prevention": Origin, or what the browser says.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site") == "same-origin"
    return origin == access.address(request)


def identify(request: Request) -> Visitor | None:
    """Who asks, by the ways that `web.login` allows; None for nobody known.

    Raises:
        ForbiddenError: the proxy names an account that may not log in.
        UnavailableError: the database does not answer.
    """
    settings: Settings = request.app.state.settings
    access: Access = request.app.state.access
    if settings.web.login == "local" and _has_bearer(request, access):
        return Visitor(identity.current(settings))
    if settings.web.login == "proxy":
        return _by_proxy(request, settings, access)
    return _by_cookie(request, settings, access)


def client_of(request: Request) -> str:
    """From which address somebody asks; behind a proxy, as the proxy says."""
    if request.client is not None:
        return request.client.host
    # Over the unix socket, where only the proxy gets in. It writes the last one.
    return request.headers.get("x-forwarded-for", "proxy").rpartition(",")[2].strip()[:100]


def begin(request: Request, caller: Caller, method: str) -> tuple[str, Visitor]:
    """Log somebody in; the value of the cookie that the answer has to set, and who it is now."""
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    origin = Origin(method, client_of(request), request.headers.get("user-agent", ""))
    with database.transaction() as session:
        token, number = sessions.begin(session, settings, caller, origin)
    return token, Visitor(caller, number, sessions.form_token(token))


def allowed_hosts(bound: str) -> frozenset[str]:
    """The host names under which an application bound to `bound` may be asked for."""
    names = {socket.gethostname().lower()} if bound in ANY_ADDRESS else {url_host(bound).lower()}
    return LOOPBACK_HOSTS | names


def url_host(host: str) -> str:
    """A host as it stands in a URL; IPv6 addresses get brackets."""
    return f"[{host}]" if ":" in host else host


def _has_bearer(request: Request, access: Access) -> bool:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and access.is_token(bearer.strip())


def _by_cookie(request: Request, settings: Settings, access: Access) -> Visitor | None:
    token = request.cookies.get(access.cookie)
    if not token:
        return None
    database: Database = request.app.state.database
    with database.transaction(read_only=True) as session:
        found = sessions.find(session, settings, token)
        if found is None:
            return None
        version = changes.version(session)
    known, due = found
    caller = sessions.caller_of(settings, known)
    if caller is None:
        return None
    if due:
        with database.transaction() as session:
            sessions.touch(session, known.id)
    return Visitor(caller, known.id, sessions.form_token(token), version)


def _by_proxy(request: Request, settings: Settings, access: Access) -> Visitor | None:
    named = request.headers.getlist(settings.web.proxy_header)
    if not named or named == [""]:
        return None
    if len(named) > 1:
        raise ForbiddenError("the proxy names two accounts; it must remove what browsers send")
    try:
        uid = identity.uid_of(named[0])
    except NotFoundError as error:
        raise ForbiddenError(f"{error}, so nobody logs in as it") from error
    if uid == 0:
        raise ForbiddenError("nobody logs in as root; name staff by identity.staff_users")
    caller = identity.by_uid(settings, uid)
    known = _by_cookie(request, settings, access)
    if known is not None and known.caller.uid == uid:
        return known
    # The guard makes a session for a page; without one nothing can be changed.
    return Visitor(caller, None, "")


def needs_session(request: Request, found: Visitor) -> bool:
    """Whether somebody whom the proxy named opens a page for the first time."""
    # Not the page of logins, to which logging out leads.
    is_page = request.method == "GET" and not request.url.path.startswith((API_PREFIX, "/login"))
    return is_page and found.session_id is None and found.form_token == ""


async def require_form_token(request: Request) -> None:
    """Stop a form that this application did not give to the session that sends it.

    Raises:
        ForbiddenError: it carries no token, or another session's.
    """
    known = visitor.of(request)
    if request.method in SAFE_METHODS or known is None or known.form_token is None:
        return
    given = str((await request.form()).get("form_token", ""))
    expected = known.form_token
    if not expected or not hmac.compare_digest(given.encode(errors="replace"), expected.encode()):
        raise ForbiddenError("this form is too old, or not from here: load its page again")


def _host(request: Request) -> str:
    """The host that was asked for, without its port, in lower case."""
    host = request.headers.get("host", "").lower()
    name, separator, port = host.rpartition(":")
    return name if separator and port.isdecimal() else host
