"""Who may use the web application: whoever has the secret token of this installation.

Every account of a machine reaches its loopback ports, so the port alone protects nothing.
"""

import hashlib
import hmac
import os
import secrets
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response

from datamgr.api import problems
from datamgr.errors import InvalidError, UnavailableError

TOKEN_FILE = "web-token"  # noqa: S105  a name, no secret
TOKEN_BYTES = 32
QUERY = "token"
STATIC_PREFIX = "/static/"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, not bound to


@dataclass(frozen=True)
class Access:
    """The token that admits, and the host names under which the application is asked for."""

    token: str
    hosts: frozenset[str] = LOOPBACK_HOSTS

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies ignore ports: installations on one host need their own."""
        return f"datamgr_{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"

    def admits(self, request: Request) -> bool:
        """Whether the request carries the token: as bearer, in the cookie or in the address."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        return (
            (scheme.lower() == "bearer" and self._is_token(bearer.strip()))
            or self._is_token(request.cookies.get(self.cookie, ""))
            or self._is_token(request.query_params.get(QUERY, ""))
        )

    def remember(self, request: Request, response: Response) -> None:
        """Give the browser the cookie when the token came in the address."""
        if self._is_token(request.query_params.get(QUERY, "")):
            # Not `secure`: a loopback address is served without TLS.
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())


def refusal(request: Request, access: Access) -> Response | None:
    """The answer to a request that may not pass, or None for one that may.

    Style sheets and icons are for everybody: the page that says no needs them.
    """
    if _host(request) not in access.hosts:
        # Else a web site could point its own name at this address and read what we answer.
        return problems.answer(request, 400, "Unknown host", "This address is not served here.")
    if request.url.path.startswith(STATIC_PREFIX) or access.admits(request):
        return None
    response = problems.answer(
        request,
        401,
        "Not signed in",
        "Open the address that `datamgr web` printed: it carries the token that lets you in.",
    )
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def allowed_hosts(bound: str) -> frozenset[str]:
    """The host names under which an application bound to `bound` may be asked for."""
    names = {socket.gethostname().lower()} if bound in ANY_ADDRESS else {url_host(bound).lower()}
    return LOOPBACK_HOSTS | names


def url_host(host: str) -> str:
    """A host as it stands in a URL; IPv6 addresses get brackets."""
    return f"[{host}]" if ":" in host else host


def load_token(state_dir: Path) -> str:
    """The token of this installation, from `<state_dir>/web-token`, made at the first call.

    Raises:
        InvalidError: others may read the file, or it holds no token.
        UnavailableError: it cannot be read or made.
    """
    path = state_dir / TOKEN_FILE
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _create(path)
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
            status = os.fstat(file.fileno())
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(
            f"the token of the web pages, {path}, cannot be used: {error}"
        ) from (error)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise InvalidError(
            f"{path} may be read by others; remove it, and `datamgr web` makes a new one"
        )
    if status.st_uid != os.geteuid():
        raise InvalidError(f"{path} belongs to account number {status.st_uid}, not to this one")
    if len(token) < TOKEN_BYTES or not token.isascii():
        raise InvalidError(f"{path} holds no token; remove it, and `datamgr web` makes a new one")
    return token


def _create(path: Path) -> None:
    """Make the file, complete from the first moment that anybody can see it."""
    draft = path.with_name(f"{TOKEN_FILE}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def _host(request: Request) -> str:
    """The host that was asked for, without its port, in lower case."""
    host = request.headers.get("host", "").lower()
    name, separator, port = host.rpartition(":")
    return name if separator and port.isdecimal() else host
