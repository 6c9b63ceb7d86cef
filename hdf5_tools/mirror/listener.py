"""The socket on which a receiver waits for writers."""

import errno
import os
import socket
import stat
from contextlib import suppress

from datamgr.errors import ConflictError, DatamgrError, ForbiddenError, InvalidError
from hdf5_tools.mirror.address import Address


def listen(where: Address) -> socket.socket:
    """A listening socket. A unix socket is for this account alone, and replaces one left behind.

    Raises:
        ConflictError: somebody listens there.
        InvalidError: there is no such address on this machine.
        ForbiddenError: this account may not listen there.
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
            except ConnectionRefusedError as error:
                if not stat.S_ISSOCK(os.lstat(where.path).st_mode):
                    raise ConflictError(f"cannot listen at {where}: that is no socket") from error
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
    # Of a port Python adds the address to what the system says; of a name there is no number.
    known = error.errno is not None and error.errno in errno.errorcode
    reason = os.strerror(error.errno or 0) if known else str(error.strerror or error)
    kinds = {errno.EADDRINUSE: ConflictError, errno.EACCES: ForbiddenError}
    kind = kinds.get(error.errno or 0, InvalidError)
    return kind(f"cannot listen at {where}: {reason}")
