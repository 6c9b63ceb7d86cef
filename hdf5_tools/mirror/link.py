"""A connection to a receiver that has been greeted, and the greeting on both sides."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from datamgr.errors import DatamgrError, ForbiddenError, UnavailableError
from hdf5_tools.mirror import auth, protocol
from hdf5_tools.mirror.address import Url
from hdf5_tools.mirror.protocol import BrokenFrameError, Frame, Kind, Reader

GREETING_S = 10.0
# What sockets that do not block raise when there is nothing to do.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class BrokenLinkError(UnavailableError):
    """The connection ended, or what came over it was damaged."""


class Link:
    """A socket and the reader of what comes in."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.reader = Reader()

    def frames(self) -> Iterator[Frame]:
        """Every frame that comes, for as long as they come; waits for them.

        Raises:
            BrokenLinkError: the link ends, takes longer than its timeout, or damages frames.
        """
        while True:
            yield from self.waiting_frames()
            self.fill()

    def waiting_frames(self) -> Iterator[Frame]:
        """Frames that are there."""
        try:
            yield from self.reader.frames()
        except BrokenFrameError as error:
            raise BrokenLinkError(str(error)) from error

    def fill(self) -> None:
        """Take what came; with a socket that does not block, BlockingIOError as it does.

        Raises:
            BrokenLinkError: the link ended or took longer than its timeout.
        """
        try:
            if self.reader.fill(self.socket) == 0:
                raise BrokenLinkError("the link was closed")
        except TimeoutError as error:
            raise BrokenLinkError("nothing came over the link in time") from error
        except WOULD_BLOCK:
            raise
        except OSError as error:  # also what TLS finds wrong
            raise BrokenLinkError(f"the link broke: {error.strerror or error}") from error

    def receive(self, *kinds: Kind) -> Frame:
        """The next frame, which has to be of one of these kinds.

        Raises:
            DatamgrError: the other side refuses.
            BrokenLinkError: the link ended, or another kind came.
        """
        for frame in self.frames():
            if frame.kind == Kind.REFUSAL:
                raise protocol.refused(frame)
            if frame.kind not in kinds:
                raise BrokenLinkError(f"a frame {frame.kind.name} came out of turn")
            return frame
        raise BrokenLinkError("the link was closed")

    def send(self, data: bytes) -> None:
        """Send all of it, waiting.

        Raises:
            BrokenLinkError: the link ended.
        """
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise BrokenLinkError(f"the link broke: {error}") from error

    def close(self) -> None:
        """End the connection."""
        with suppress(OSError):
            self.socket.close()


def connect(url: Url, token: bytes | None, **hello: Any) -> tuple[Link, dict[str, Any]]:
    """A link to the receiver of `url` that knows the token, and its welcome.

    Raises:
        UnavailableError: nobody answers, or no receiver does.
        ForbiddenError: one side does not know the token of the other.
        DatamgrError: the receiver refuses, for the reason it gives.
    """
    plain = url.address.connect()
    link = Link(plain)
    try:
        binding = b""
        if url.tls:
            link.socket, binding = auth.client_tls(plain)
        greeting = link.receive(Kind.GREETING).json()
        _check_greeting(greeting, token, url)
        nonce = os.urandom(auth.NONCE_BYTES)
        said = protocol.to_json(
            version=protocol.VERSION, nonce=nonce.hex(), name=url.text_name, **hello
        )
        key = token or b""
        server_nonce = bytes.fromhex(greeting["nonce"])
        proof = auth.prove(key, b"writer", server_nonce, binding, said)
        link.send(protocol.frame(Kind.HELLO, payload=proof + said))
        welcome = bytes(link.receive(Kind.WELCOME).payload)
        proof, said = welcome[: auth.PROOF_BYTES], welcome[auth.PROOF_BYTES :]
        if not auth.is_proof(proof, key, b"receiver", nonce, binding, said):
            raise ForbiddenError(
                f"{url.address} does not know the token: it is no receiver of ours"
            )
        link.reader.limit_bytes = protocol.MAX_PAYLOAD_BYTES
        return link, protocol.parse(said)
    except (OSError, KeyError, ValueError) as error:
        link.close()
        raise UnavailableError(f"{url.address} is no receiver: {error}") from error
    except BrokenLinkError as error:
        link.close()
        hint = "" if url.tls else " (if it uses TLS, its URL begins with h5ms:)"
        raise BrokenLinkError(f"{url.address} is no receiver: {error}{hint}") from error
    except DatamgrError:
        link.close()
        raise


def greet(link: Link, token: bytes | None, binding: bytes) -> tuple[dict[str, Any], bytes]:
    """What somebody who connected and knows the token wants, and the nonce to welcome them with.

    Raises:
        ForbiddenError: they do not know the token.
        BrokenLinkError: they said nothing, nothing in time, or nothing that makes sense.
    """
    nonce = os.urandom(auth.NONCE_BYTES)
    greeting = protocol.to_json(
        version=protocol.VERSION, nonce=nonce.hex(), token=token is not None
    )
    link.send(protocol.frame(Kind.GREETING, payload=greeting))
    ends_at = time.monotonic() + GREETING_S
    frame = None
    while frame is None:
        link.socket.settimeout(max(0.01, ends_at - time.monotonic()))
        link.fill()
        frame = next(link.waiting_frames(), None)
    payload = bytes(frame.payload)
    proof, said = payload[: auth.PROOF_BYTES], payload[auth.PROOF_BYTES :]
    if frame.kind != Kind.HELLO:
        raise BrokenLinkError("what came first was no greeting")
    if not auth.is_proof(proof, token or b"", b"writer", nonce, binding, said):
        raise ForbiddenError("the token is not that of this receiver")
    try:
        hello = protocol.parse(said)
        peer = bytes.fromhex(str(hello["nonce"]))
    except (KeyError, ValueError, BrokenFrameError) as error:
        raise BrokenLinkError("what came first was no greeting") from error
    link.reader.limit_bytes = protocol.MAX_PAYLOAD_BYTES
    return hello, peer


def welcome(link: Link, token: bytes | None, binding: bytes, nonce: bytes, **said: Any) -> None:
    """Tell somebody that they are served."""
    body = protocol.to_json(**said)
    proof = auth.prove(token or b"", b"receiver", nonce, binding, body)
    link.send(protocol.frame(Kind.WELCOME, payload=proof + body))


def _check_greeting(greeting: dict[str, Any], token: bytes | None, url: Url) -> None:
    if greeting.get("version") != protocol.VERSION:
        raise UnavailableError(
            f"{url.address} speaks version {greeting.get('version')!s:.20} of the protocol, this "
            f"is version {protocol.VERSION}"
        )
    if greeting.get("token") and token is None:
        raise ForbiddenError(f"{url.address} asks for a token; give the file that has it")
    if not greeting.get("token") and token is not None:
        # Whoever does not know the token would ask for none.
        raise ForbiddenError(f"{url.address} asks for no token: it is not the one that has yours")
