"""The web application on a real server of this process, and a provider of logins beside it."""

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from datamgr.api import server


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of the application."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    running = uvicorn.Server(config)
    with server.listen("127.0.0.1", 0, exact=True) as sock:
        thread = threading.Thread(target=running.run, args=([sock],))
        thread.start()
        try:
            yield server.address(sock)
        finally:
            app.state.stopping.set()
            running.should_exit = True
            thread.join()


def free_port() -> int:
    """For a server that is told its port; nobody is given it who asks for any port meanwhile."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def provider() -> Iterator[str]:
    """A provider of logins, in a process of its own, that believes whoever says who they are."""
    port = free_port()
    argv = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            issuer = f"http://localhost:{port}"
            deadline = time.monotonic() + 120
            while True:
                try:
                    httpx.get(f"{issuer}/.well-known/openid-configuration").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert time.monotonic() < deadline, "the provider does not answer"
                    time.sleep(0.1)
            yield issuer
        finally:
            process.kill()
