"""Answers what the `ghi` commands ask: one question, one answer, for whoever the kernel says asks.

Questions and answers are JSON; paths in them are bytes as latin-1.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import orm

from datamgr import identity, tasks
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import DatamgrError, ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller
from datamgr.tasks import State
from tiering import requests, states
from tiering.questions import MAX_FILES
from tiering.request import Request
from tiering.root import ManagedRoot
from tiering.states import Seen

log = logging.getLogger(__name__)

Question = Mapping[str, Any]
_Inode = Annotated[int, Field(ge=0, lt=2**64)]
_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_SEEN = TypeAdapter(tuple[list[_Inode], list[_Number], list[_Number], list[_Number]])
_PATHS = TypeAdapter(Annotated[list[str], Field(strict=True)])
_REQUEST = TypeAdapter(Annotated[int, Field(strict=True)])
_COUNT = TypeAdapter(Annotated[int, Field(strict=True, ge=0, lt=2**63)])
# So long a request that failed is told unasked.
_STILL_NEWS = timedelta(days=1)


@dataclass(frozen=True)
class Service:
    """The managed roots of a daemon, for those who ask."""

    settings: Settings
    database: Database
    roots: Mapping[str, ManagedRoot]

    def answer(self, uid: int, line: bytes) -> bytes:
        """What is said to one line of an account, whatever it is."""
        try:
            return _encode(self.ask(uid, json.loads(line)))
        except DatamgrError as error:
            return refusal(str(error), type(error).__name__)
        except (ValidationError, LookupError, TypeError, ValueError, RecursionError) as error:
            return refusal(f"a malformed question: {type(error).__name__}")
        except Exception:
            log.exception("an internal error")
            return refusal("internal error of the daemon, see its log", "UnavailableError")

    def ask(self, uid: int, question: Question) -> Any:
        """The answer to a question.

        Raises:
            DatamgrError: the answer is no.
        """
        own = os.geteuid()
        if own != 0 and uid not in (0, own):
            raise ForbiddenError(f"this daemon acts for {identity.username_of(own)} alone")
        caller = identity.by_uid(self.settings, uid)
        answer = _ANSWERS.get(str(question["do"]))
        if answer is None:
            raise InvalidError("this daemon does not know the question; is it of another version?")
        # What is only looked at is asked for often.
        with self.database.transaction(read_only=answer not in _WRITING) as session:
            return answer(self, session, caller, question)

    def root(self, question: Question) -> ManagedRoot:
        """The root that a question is about.

        Raises:
            NotFoundError: there is none of this name.
        """
        name = question["root"]
        if name not in self.roots:
            raise NotFoundError(f"there is no managed root {name!r}")
        return self.roots[name]


def refusal(sentence: str, kind: str = "InvalidError") -> bytes:
    """The answer that is no."""
    return json.dumps({"refused": sentence, "kind": kind}).encode()


def _roots(service: Service, session: orm.Session, caller: Caller, question: Question) -> Any:
    return [
        {"name": name, "path": os.fsencode(root.settings.root)}
        for name, root in service.roots.items()
    ]


def _submit(service: Service, session: orm.Session, caller: Caller, question: Question) -> Any:
    service.root(question["request"])
    request = Request.model_validate(question["request"])
    paths = [path.encode("latin-1") for path in _PATHS.validate_python(question["paths"])]
    task = requests.submit(session, caller, request, paths)
    return _absolute(service, requests.show(session, caller, task.id))


def _show(service: Service, session: orm.Session, caller: Caller, question: Question) -> Any:
    number = _REQUEST.validate_python(question["request"])
    failures = _COUNT.validate_python(question["failures"])
    return _absolute(service, requests.show(session, caller, number, failures=failures))


def _list(service: Service, session: orm.Session, caller: Caller, question: Question) -> Any:
    is_all = bool(question["all"])
    failed = (State.PARTIAL, State.FAILED)
    limit = min(_COUNT.validate_python(question["limit"]), 1000)
    rows = requests.list_requests(
        session,
        caller,
        states=tuple(State) if is_all else (*tasks.UNFINISHED, *failed),
        limit=limit,
        ended_within=None if is_all else _STILL_NEWS,
    )
    return [_absolute(service, row) for row in rows]


def _cancel(service: Service, session: orm.Session, caller: Caller, question: Question) -> Any:
    number = _REQUEST.validate_python(question["request"])
    return _absolute(service, requests.cancel(session, caller, number))


def _absolute(service: Service, row: dict[str, Any]) -> dict[str, Any]:
    """The row with paths as people know them."""
    if row["root"] not in service.roots:
        return row
    top = os.fsencode(service.roots[row["root"]].settings.root)
    failures = [
        failure | {"path": _below(top, failure["path"])} for failure in row.get("failures", ())
    ]
    return row | {"first_path": _below(top, row["first_path"]), "failures": failures}


def _below(top: bytes, path: bytes) -> bytes:
    """As a path is shown; `.` is the root itself."""
    return top if path == b"." else os.path.join(top, path)


def _states(service: Service, session: orm.Session, caller: Caller, question: Question) -> Any:
    seen = Seen(*_SEEN.validate_python([question[column] for column in Seen._fields]))
    if len({len(column) for column in seen}) != 1:
        raise InvalidError("a malformed question: its columns are not of one length")
    if len(seen.inodes) > MAX_FILES:
        raise InvalidError(f"at most {MAX_FILES} files are looked up at once")
    return states.states(session, service.root(question).filesystem, seen)._asdict()


def _df(service: Service, session: orm.Session, caller: Caller, question: Question) -> Any:
    found = []
    for name, root in service.roots.items():
        disk = os.fstatvfs(root.descriptor)
        found.append(
            {
                "root": name,
                "path": os.fsencode(root.settings.root),
                "disk_bytes": disk.f_blocks * disk.f_frsize,
                "disk_free_bytes": disk.f_bavail * disk.f_frsize,
                "disk_files": disk.f_files - disk.f_ffree,
                "states": states.totals(session, name),
                "archive": states.archive_totals(session, name),
            }
        )
    return found


_Answer = Callable[[Service, orm.Session, Caller, Question], Any]
_ANSWERS: Mapping[str, _Answer] = {
    "roots": _roots,
    "submit": _submit,
    "show": _show,
    "list": _list,
    "cancel": _cancel,
    "states": _states,
    "df": _df,
}
_WRITING = (_submit, _cancel)


def _encode(answer: Any) -> bytes:
    return json.dumps({"answer": answer}, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
