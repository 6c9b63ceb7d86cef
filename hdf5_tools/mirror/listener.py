"""The socket on which a receiver waits for writers."""

import errno
import os
import socket
from contextlib import suppress

from datamgr.errors import ConflictError, DatamgrError, InvalidError
from hdf5_tools.mirror.address import Address


def listen(where: Address) -> socket.socket:
    """A listening socket. A unix socket is for this account alone, and replaces one left behind.

    Raises:
        ConflictError: somebody listens there.
        InvalidError: there is no such address on this machine.
    """
    if not where.path:
        try:
            found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
            family = found[0][0]
            return socket.create_server((where.host, where.port), family=family, backlog=64)
        except OSError as error:
            raise _cannot_listen(where, error) from error
    listener = socket.socket(socket.AF_UNIX)
    try:
        with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError):
            try:
                probe.connect(where.path)
            except ConnectionRefusedError:
                os.unlink(where.path)
            else:
                raise ConflictError(f"somebody listens at {where}")
        before = os.umask(0o177)
        try:
            listener.bind(where.path)
        finally:
            os.umask(before)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise _cannot_listen(where, error) from error
    except ConflictError:
        listener.close()
        raise
    return listener


def _cannot_listen(where: Address, error: OSError) -> DatamgrError:
    kind = ConflictError if error.errno == errno.EADDRINUSE else InvalidError
    return kind(f"cannot listen at {where}: {error.strerror or error}")
