"""Runs the web application: takes a port, serves until a signal, ends cleanly."""

import errno
import gc
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import closing

import uvicorn
from fastapi import FastAPI

from datamgr import daemon
from datamgr.api import peers
from datamgr.api.auth import url_host
from datamgr.errors import UnavailableError

log = logging.getLogger(__name__)

GRACE_S = 5  # what running requests get at the end
TICK_S = 0.02


def listen(host: str, port: int, *, exact: bool) -> socket.socket:
    """A socket bound to the port; 0 takes any free one, as does a taken one unless `exact`.

    Raises:
        UnavailableError: the port is taken or not allowed, or the host is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"the host {host!r} (web.host) cannot be found") from error
    # With its protocol, or asyncio leaves out TCP_NODELAY, and each answer takes 40 ms longer.
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        # Without this a second process could still bind the port, and fail only later.
        sock.listen()
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE and not exact:
            log.warning("port %d is taken; serving on another one", port)
            return listen(host, 0, exact=True)
        raise UnavailableError(_cannot_listen(host, port, error)) from error
    return sock


def run(app: FastAPI, sock: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `on_ready` gets the address once connections are accepted.

    `app.state.stopping` is set as soon as it ends, for answers that would go on.

    Only in the main thread. Running requests have GRACE_S to end; a second Ctrl-C waits for
    nothing.

    Raises:
        UnavailableError: the server ended by itself.
    """
    stopping = app.state.stopping
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=peers.protocol(peers.allowed(app.state.settings)),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
    )

    def hasten() -> None:
        server.force_exit = True

    # In a thread, because uvicorn in the main thread would end by the signal it caught.
    thread = threading.Thread(target=server.run, args=([sock],), name="web")
    with closing(sock), daemon.stop_on_signals(hasten) as stop:
        gc.freeze()  # what was imported stays, and need not be looked at with each collection
        thread.start()
        try:
            ready = False
            while thread.is_alive() and not stop.wait(TICK_S if not ready else 1.0):
                if server.started and not ready:
                    ready = True
                    on_ready(address(sock))
        finally:
            stopping.set()
            server.should_exit = True
            thread.join()
        if not stop.is_set():
            raise UnavailableError("the web server ended by itself; its log says why")


def address(sock: socket.socket) -> str:
    """The URL of a bound socket, without a path; of a unix socket its place."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  compared with, not bound to
        host = socket.gethostname()
    return f"http://{url_host(host)}:{port}"


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken; choose another by --port, or --port 0 for any"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges; choose one above 1023 by --port, or --port 0 for any"
    return f"port {port} of {host} cannot be opened: {error.strerror}"
