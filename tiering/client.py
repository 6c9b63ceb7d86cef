"""Asks the daemon of managed roots; where none runs, does its work for who owns the root."""

import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from datamgr import config_file, errors
from datamgr.errors import DatamgrError, InvalidError, UnavailableError
from tiering.questions import MAX_QUESTION_BYTES

if TYPE_CHECKING:
    from datamgr.config import Settings

TIMEOUT_S = 60.0
PATIENCE_S = 120.0  # for a daemon that is started again
_MAX_ANSWER_BYTES = 256 << 20
_LOOK_S, _LOOK_LATER_S = 0.1, 0.25
_SHORT_S = 2.0  # so long it is looked at more often
_MOST_FAILURES = 100_000


class Client(Protocol):
    """Somebody who answers questions about managed roots."""

    def ask(self, do: str, **question: Any) -> Any:
        """The answer; bytes in it are latin-1.

        Raises:
            DatamgrError: the answer is no.
        """

    def working(self) -> "ExitStack":
        """A block during which requests are carried out."""

    @property
    def is_daemon(self) -> bool:
        """Whether requests are carried out after this process has ended, too."""


class Remote:
    """The daemon at a socket."""

    is_daemon = True

    def __init__(self, place: Path) -> None:
        self._place = place

    def ask(self, do: str, **question: Any) -> Any:
        """As `Client.ask`."""
        line = json.dumps({"do": do, **question}).encode() + b"\n"
        if len(line) > MAX_QUESTION_BYTES:
            raise InvalidError("that is too much for one question")
        try:
            heard = _exchange(self._place, line)
        except OSError as error:
            raise UnavailableError(
                f"the daemon of managed roots does not answer on {self._place}: "
                f"{error.strerror or 'no answer in time'}"
            ) from error
        return answer_of(heard)

    def working(self) -> ExitStack:
        """The daemon works anyway."""
        return ExitStack()


@contextmanager
def connect(config_path: str | None) -> Iterator[Client]:
    """Whoever answers for the managed roots; `config_path` as `--config` names it.

    Raises:
        UnavailableError: no daemon runs, and there is no root of this account's own.
        InvalidError: the configuration, which a daemon that answers is not asked for, is wrong.
    """
    place = config_file.tier_socket(config_path)
    if place is not None and _answers(place):
        yield Remote(place)
        return
    from datamgr import config

    settings = config.load(config_path)
    if settings.tier_socket != place and _answers(settings.tier_socket):
        yield Remote(settings.tier_socket)
        return
    names = [name for name, tier in settings.tier.items() if _is_own(tier.root)]
    if not names:
        raise UnavailableError(_why_nobody_answers(settings))
    # A client of a daemon need not load what does the work.
    from datamgr.exclusive import TakenError
    from tiering import local

    with ExitStack() as stack:
        try:
            service: Client = stack.enter_context(local.own(settings, names))
        except TakenError:
            # A daemon that has started meanwhile listens before it takes the roots.
            if not _answers(settings.tier_socket):
                raise
            service = Remote(settings.tier_socket)
        yield service


def follow(client: Client, request: int, show: Callable[[Mapping[str, Any]], None]) -> Any:
    """The row of a request at its end; `show` is given what it is until then.

    A daemon that is started again meanwhile is waited for.

    Raises:
        UnavailableError: the daemon is gone.
    """
    lost_at: float | None = None
    began = time.monotonic()
    failures = 0  # are asked for when there are no more to come
    with client.working():
        while True:
            try:
                row = client.ask("show", request=request, failures=failures)
            except UnavailableError:
                lost_at = lost_at or time.monotonic()
                if not client.is_daemon or time.monotonic() - lost_at > PATIENCE_S:
                    raise
                time.sleep(1)
                continue
            lost_at = None
            if row["finished_at"] is None:
                show(row)
                is_short = time.monotonic() - began < _SHORT_S
                time.sleep(_LOOK_S if is_short else _LOOK_LATER_S)
            elif failures == 0:
                failures = _MOST_FAILURES
            else:
                return row


def _exchange(place: Path, line: bytes) -> bytes:
    heard = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(place))
        with suppress(BrokenPipeError):  # it may have answered already, to say no
            connection.sendall(line)
        while not heard.endswith(b"\n") and len(heard) < _MAX_ANSWER_BYTES:
            piece = connection.recv(1 << 18)
            if not piece:
                break
            heard += piece
    return bytes(heard)


def answer_of(heard: bytes) -> Any:
    """What a line of the daemon says.

    Raises:
        DatamgrError: that the answer is no.
    """
    try:
        told = json.loads(heard)
    except ValueError:
        raise UnavailableError("the daemon ended in the middle of its answer") from None
    if "refused" not in told:
        return told["answer"]
    kind = getattr(errors, str(told.get("kind")), UnavailableError)
    known = isinstance(kind, type) and issubclass(kind, DatamgrError)
    raise (kind if known else UnavailableError)(told["refused"])


def _answers(place: Path) -> bool:
    try:
        if not stat.S_ISSOCK(place.stat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(place))
    except (ConnectionRefusedError, FileNotFoundError, PermissionError):
        return False
    except OSError as error:
        raise UnavailableError(f"the daemon on {place} does not answer: {error}") from error
    return True


def _is_own(root: Path) -> bool:
    try:
        return root.stat().st_uid == os.geteuid() or os.geteuid() == 0
    except OSError:
        return os.geteuid() == 0


def _why_nobody_answers(settings: "Settings") -> str:
    if settings.tier or settings.tiering.socket is not None:
        return (
            f"the daemon of managed roots does not run: nothing answers on {settings.tier_socket}; "
            "an operator starts it by `datamgr tier daemon`"
        )
    return (
        "no directory is managed here: configure [tier.NAME] with root and archive, or set "
        "tiering.socket to where the daemon of this site answers"
    )
