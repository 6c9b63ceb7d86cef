"""`datamgr web`: serve the web pages and the API."""

import logging
import sys

import click

from datamgr import db, logs
from datamgr.cli import options
from datamgr.config import Settings

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 means any that is free. Default web.port, or any if that is taken.",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on; default web.host.")
@options.pass_settings
@click.pass_context
def web(ctx: click.Context, settings: Settings, port: int | None, host: str | None) -> None:
    """Serve the web pages and the API until stopped, and print their address.

    The address carries a secret token: open it once and the browser is signed in. Programs send
    it as `Authorization: Bearer TOKEN`. It is kept in <state_dir>/web-token, readable by this
    account only; remove the file and start again for a new one.

    Listens on the loopback address only. To look from elsewhere use an SSH tunnel, or a proxy
    with TLS in front: this speaks plain HTTP.

    Ctrl-C or SIGTERM stops it, with exit code 0.

    \b
    Examples:
      datamgr web
      datamgr web --port 9000
      ssh -L 8765:localhost:8765 HOST     then open the address on your own machine
    """
    verbose = ctx.ensure_object(dict).get("verbose", False)
    # People read text on their terminal; whatever collects a service's output gets JSON lines.
    logs.configure_logging(daemon=not sys.stderr.isatty(), verbose=verbose)
    serve(settings, port=port, host=host)


def serve(settings: Settings, *, port: int | None = None, host: str | None = None) -> None:
    """Serve until stopped; prints the address once it accepts connections.

    Raises:
        InvalidError: others may read the token.
        UnavailableError: the port is taken, or the database does not answer.
    """
    # Imported here: FastAPI takes longer to load than most commands to run.
    from datamgr.api import app, auth, server

    # A port that somebody chose is not silently replaced by another.
    exact = port is not None or "port" in settings.web.model_fields_set
    wanted_host = host or settings.web.host
    token = auth.load_token(settings.state_dir)
    access = auth.Access(token, auth.allowed_hosts(wanted_host))

    def show(address: str) -> None:
        log.info("serving on %s", address)
        click.echo(f"{address}/?{auth.QUERY}={token}")

    with (
        server.listen(
            wanted_host, settings.web.port if port is None else port, exact=exact
        ) as sock,
        db.open_database(settings) as database,
    ):
        server.run(app.create_app(settings, database, access), sock, show)
