"""The unix socket of the web application, and whose connections to it are taken."""

import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from datamgr import identity
from datamgr.config import Settings
from datamgr.errors import ConflictError, InvalidError, UnavailableError

log = logging.getLogger(__name__)


def allowed(settings: Settings) -> frozenset[int]:
    """The accounts whose processes may connect: the proxy's, this one's and root.

    Raises:
        NotFoundError: there is no account `web.proxy_account`.
    """
    name = settings.web.proxy_account
    proxy = frozenset() if name is None else frozenset({identity.uid_of(name)})
    return proxy | {0, os.geteuid()}


def protocol(uids: frozenset[int]) -> type[H11Protocol]:
    """HTTP that on a unix socket listens to these accounts alone. Source: unix(7), SO_PEERCRED."""

    class Checked(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            peer: socket.socket = transport.get_extra_info("socket")
            super().connection_made(transport)
            if peer.family != socket.AF_UNIX:
                return
            told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, _ = struct.unpack("=iII", told)
            if uid not in uids:
                log.warning("process %d of account %d was turned away", pid, uid)
                transport.abort()

    return Checked


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket at this path, which is removed at the end; one that a killed server left is taken.

    Everybody who reaches it may connect, and `protocol` says who is heard.

    Raises:
        ConflictError: somebody answers there.
        InvalidError: something else is there.
        UnavailableError: none can be made there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _clear(path)
            mask = os.umask(0o111)
            try:
                sock.bind(str(path))
            finally:
                os.umask(mask)
            sock.listen()
        except OSError as error:
            why = error.strerror or "its path is too long"
            raise UnavailableError(f"no socket can be made at {path}: {why}") from error
        try:
            yield sock
        finally:
            with suppress(OSError):
                path.unlink()


def _clear(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise InvalidError(f"{path} is no socket; remove it, or set web.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise ConflictError(f"somebody answers on {path} already")
    path.unlink()
