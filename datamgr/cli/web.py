"""`datamgr web`: serve the web pages and the API."""

import ipaddress
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datamgr import config_web, db, identity, logs, sessions
from datamgr.cli import options
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import InvalidError

if TYPE_CHECKING:
    from datamgr.api.auth import Access

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 means any that is free. Default web.port, or any if that is taken.",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on; default web.host.")
@click.option(
    "--workers",
    type=click.IntRange(1, config_web.MOST_WORKERS),
    help="Processes that serve, each by a core of its own; default web.workers.",
)
@options.pass_settings
@click.pass_context
def web(
    ctx: click.Context,
    settings: Settings,
    port: int | None,
    host: str | None,
    workers: int | None,
) -> None:
    """Serve the web pages and the API until stopped, and print their address.

    With `web.login = "local"`, the default, the address is a link that logs one browser in as the
    account that runs this. It is good once, for an hour; `datamgr identity link` prints another.
    Programs send the token in <state_dir>/web-token as `Authorization: Bearer TOKEN`; remove the
    file and start again for a new one. This way only the loopback address is served: to look from
    elsewhere use an SSH tunnel.

    For more people than one, `web.login` is `proxy` or `oidc`, behind a proxy with TLS, for this
    speaks plain HTTP: docs/howto/logins.md.

    Ctrl-C or SIGTERM stops it, with exit code 0.

    \b
    Examples:
      datamgr web
      datamgr web --port 9000
      datamgr web --workers 4
      ssh -L 8765:localhost:8765 HOST     then open the link on your own machine
    """
    verbose = ctx.ensure_object(dict).get("verbose", False)
    # People read text on their terminal; whatever collects a service's output gets JSON lines.
    logs.configure_logging(daemon=not sys.stderr.isatty(), verbose=verbose)
    serve(settings, port=port, host=host, workers=workers)


def serve(
    settings: Settings,
    *,
    port: int | None = None,
    host: str | None = None,
    workers: int | None = None,
) -> None:
    """Serve until stopped; prints the address once it accepts connections.

    Raises:
        InvalidError: others may read the token, or the settings of logins do not fit together.
        UnavailableError: the port is taken, or the database does not answer.
    """
    # Imported here: FastAPI takes longer to load than most commands to run.
    from datamgr.api import auth, token_file
    from datamgr.api import workers as processes

    wanted_host = host or settings.web.host
    _check(settings, wanted_host)
    token = token_file.load_token(settings.state_dir)
    access = auth.of_settings(settings, token, wanted_host)
    number = workers or settings.web.workers
    with _listening(settings, wanted_host, port) as sock:
        if number == 1:
            _serve(settings, access, sock, 0)
        else:
            processes.run(number, lambda worker: _serve(settings, access, sock, worker))


def _serve(settings: Settings, access: "Access", sock: socket.socket, worker: int) -> None:
    """Serve by this process; the first one of several says where."""
    from datamgr.api import app, server

    place = address_file(settings)
    with db.open_database(settings) as database:

        def show(address: str) -> None:
            if worker:
                return
            address = settings.web.public_url or address
            log.info("serving on %s", address)
            place.write_text(address + "\n")
            is_local = settings.web.login == "local"
            click.echo(new_link(settings, database, address) if is_local else address)

        try:
            server.run(app.create_app(settings, database, access), sock, show)
        finally:
            if not worker:
                with suppress(OSError):
                    place.unlink()


def new_link(settings: Settings, database: Database, address: str) -> str:
    """A link that logs one browser in, once, as the account of this process."""
    detail = {"uid": identity.current(settings).uid}
    with database.transaction() as session:
        ticket = sessions.issue_ticket(session, sessions.LINK, detail, settings.web.link_s)
    return f"{address}/login/link?ticket={ticket}"


def address_file(settings: Settings) -> Path:
    """Where a server that runs says under which address."""
    return settings.state_dir / "web-address"


@contextmanager
def _listening(settings: Settings, host: str, port: int | None) -> Iterator[socket.socket]:
    from datamgr.api import peers, server

    if settings.web.socket is not None:
        with peers.listening(settings.web.socket) as sock:
            yield sock
        return
    # A port that somebody chose is not silently replaced by another.
    exact = port is not None or "port" in settings.web.model_fields_set
    with server.listen(host, settings.web.port if port is None else port, exact=exact) as sock:
        yield sock


def _check(settings: Settings, host: str) -> None:
    """Refuse settings under which somebody else would be let in."""
    section = settings.web
    if section.socket is not None and section.public_url is None:
        raise InvalidError("web.socket is for a proxy, which needs web.public_url")
    if section.login == "local":
        if section.socket is None and not _is_loopback(host):
            raise InvalidError(
                f"{host} is reached from elsewhere, where a link is no login; set web.login to "
                "proxy or oidc, or serve 127.0.0.1 and use an SSH tunnel"
            )
        return
    if section.public_url is None:
        raise InvalidError(f"web.login is {section.login}, which needs web.public_url")
    if section.login == "proxy" and (section.socket is None or section.proxy_account is None):
        raise InvalidError(
            "web.login is proxy, which needs web.socket and web.proxy_account: on a port anybody "
            "of this machine could say that they are somebody else"
        )


def _is_loopback(host: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return True  # that it cannot be found is said by who listens
    return all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)
