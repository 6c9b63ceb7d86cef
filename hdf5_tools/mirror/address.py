"""Where a receiver listens, and what a replica is called there."""

import os
import socket
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote_to_bytes, urlsplit

from datamgr import display
from datamgr.errors import InvalidError, UnavailableError

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Address:
    """A TCP port, or a unix socket if `path` is given."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`.

        Raises:
            InvalidError: none of them.
        """
        if text.startswith("unix:") and len(text) > 5:
            return cls(path=text[5:])
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise InvalidError(f"{text!r} is no address: HOST:PORT or unix:PATH")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{display.printable(self.path)}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        """A connection.

        Raises:
            UnavailableError: nobody answers.
        """
        try:
            if self.path:
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(_TIMEOUT_S)
                connection.connect(self.path)
            else:
                connection = socket.create_connection((self.host, self.port), _TIMEOUT_S)
                keep_alive(connection)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnavailableError(f"no receiver answers at {self}: {reason}") from error
        return connection


@dataclass(frozen=True)
class Url:
    """A replica: `h5m://HOST:PORT/NAME`, `h5ms://…` with TLS, `h5m+unix:PATH?NAME`."""

    address: Address
    name: bytes
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """The replica that a URL names; `%XX` in the name stands for a byte.

        Raises:
            InvalidError: it is no such URL.
        """
        try:
            if text.startswith("h5m+unix:"):
                path, _, name = text.removeprefix("h5m+unix:").partition("?")
                return cls(Address.parse(f"unix:{path}"), _name(text, name))
            parts = urlsplit(text)
            if parts.scheme not in ("h5m", "h5ms") or parts.query or parts.fragment:
                raise InvalidError("another scheme")
            address = Address.parse(parts.netloc)
            return cls(address, _name(text, parts.path[1:]), parts.scheme == "h5ms")
        except ValueError as error:
            raise InvalidError(f"{text!r} is no valid URL: {error}") from error
        except InvalidError as error:
            raise InvalidError(
                f"{text!r} names no replica: h5m://HOST:PORT/NAME, h5ms://HOST:PORT/NAME (TLS) "
                "or h5m+unix:PATH?NAME"
            ) from error

    def __str__(self) -> str:
        name = quote(self.name)
        if self.address.path:
            return f"h5m+unix:{display.printable(self.address.path)}?{name}"
        return f"{'h5ms' if self.tls else 'h5m'}://{self.address}/{name}"

    @property
    def text_name(self) -> str:
        """The name as it travels in JSON."""
        return os.fsdecode(self.name)


def keep_alive(connection: socket.socket) -> None:
    """Let the kernel notice within a minute that the other machine is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("IDLE", 20), ("INTVL", 10), ("CNT", 3)):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{option}"), value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


def _name(text: str, quoted: str) -> bytes:
    name = unquote_to_bytes(quoted)
    if not name:
        raise InvalidError(f"{text!r} names no file")
    return name
