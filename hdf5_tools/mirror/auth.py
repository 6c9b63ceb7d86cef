"""Who may talk to a receiver: a shared token that never travels, and TLS that is bound to it.

Each side proves to the other that it knows the token, by an HMAC over what both said and over the
receiver's certificate. A self-signed certificate is thereby as good as one of an authority.
"""

import hashlib
import hmac
import os
import socket
import ssl
from pathlib import Path

from datamgr import display
from datamgr.errors import ForbiddenError, InvalidError, NotFoundError

PROOF_BYTES = 32
NONCE_BYTES = 16
_MIN_TOKEN_BYTES = 16


def read_token(path: Path) -> bytes:
    """The token in a file, without space around it.

    Raises:
        NotFoundError: there is no such file.
        ForbiddenError: everybody may read it, or this account may not.
        InvalidError: it has less than 16 bytes.
    """
    shown = display.printable(path)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                raise ForbiddenError(f"everybody may use the token in {shown}: chmod o= it")
            token = file.read(4096).strip()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {shown} with the token") from error
    except OSError as error:
        raise ForbiddenError(f"the token in {shown} cannot be read: {error.strerror}") from error
    if len(token) < _MIN_TOKEN_BYTES:
        raise InvalidError(f"the token in {shown} has less than {_MIN_TOKEN_BYTES} bytes")
    return token


def prove(token: bytes, role: bytes, nonce: bytes, binding: bytes, said: bytes) -> bytes:
    """That whoever says `said` as `role` knows the token, now (`nonce`) and here (`binding`)."""
    return hmac.digest(token, b"\0".join((role, nonce.hex().encode(), binding, said)), "sha256")


def is_proof(proof: bytes, *of: bytes) -> bool:
    """Whether it is what `prove` gives of the same, compared in constant time."""
    return hmac.compare_digest(proof, prove(*of))


def server_context(certificate: Path, key: Path) -> tuple[ssl.SSLContext, bytes]:
    """TLS for a receiver, and what its proofs are bound to.

    Raises:
        InvalidError: there is no certificate with its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        text = certificate.read_text("ascii")
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        first = text[text.index(begin) : text.index(end) + len(end)]
        return context, hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()
    except (OSError, ValueError) as error:
        raise InvalidError(
            f"{display.printable(certificate)} and {display.printable(key)} are no certificate "
            f"with its key: {error}"
        ) from error


def client_tls(plain: socket.socket) -> tuple[ssl.SSLSocket, bytes]:
    """TLS to a receiver, whoever it is, and what its proof has to be bound to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Not by authorities: the receiver has to prove the token for this very certificate.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    secured = context.wrap_socket(plain)
    return secured, hashlib.sha256(secured.getpeercert(binary_form=True) or b"").digest()
