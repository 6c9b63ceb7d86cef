"""The secret token of this installation: what programs of its own account send to the API."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from datamgr.errors import InvalidError, UnavailableError

TOKEN_FILE = "web-token"  # noqa: S105  a name, no secret
TOKEN_BYTES = 32


def load_token(state_dir: Path) -> str:
    """The token of this installation, from `<state_dir>/web-token`, made at the first call.

    Raises:
        InvalidError: others may read the file, or it holds no token.
        UnavailableError: it cannot be read or made.
    """
    path = state_dir / TOKEN_FILE
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _create(path)
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
            status = os.fstat(file.fileno())
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(
            f"the token of the web pages, {path}, cannot be used: {error}"
        ) from (error)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise InvalidError(
            f"{path} may be read by others; remove it, and `datamgr web` makes a new one"
        )
    if status.st_uid != os.geteuid():
        raise InvalidError(f"{path} belongs to account number {status.st_uid}, not to this one")
    if len(token) < TOKEN_BYTES or not token.isascii():
        raise InvalidError(f"{path} holds no token; remove it, and `datamgr web` makes a new one")
    return token


def _create(path: Path) -> None:
    """Make the file, complete from the first moment that anybody can see it."""
    draft = path.with_name(f"{TOKEN_FILE}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    try:
        os.link(draft, path)
    finally:
        draft.unlink()
