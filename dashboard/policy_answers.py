"""What is told of a policy's dry run: the object that the command prints and the API answers."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from dashboard.policy import Outcome
from datamgr import owners
from scanners import ages, answers
from scanners.queries import Row


class Amount(BaseModel):
    """Files, and bytes of their content and on disk."""

    files: int
    size_bytes: int
    alloc_bytes: int


class Of(Amount):
    """What is of one project, of one account, or left for one reason."""

    project: str | None = None
    user: str | None = None
    reason: str | None = None


class File(answers.Row):
    """A file that something would be done to; `time` is the one that the policy goes by."""

    path: str
    path_b64: str | None = None
    project: str
    user: str
    size_bytes: int
    alloc_bytes: int
    time: datetime | None
    state: Literal["G", "B", "H"]


class PolicyAnswer(answers.Answer[File]):
    """A dry run; the rows are the oldest of the chosen files.

    `missing_bytes` has to be freed for the target and `until` is the day up to which files are
    taken for it; null without one. `is_whole`: all files were looked at.
    """

    root: str
    policy: str
    action: Literal["put", "punch"]
    scanned_at: datetime
    is_whole: bool
    chosen: Amount
    projects: list[Of]
    users: list[Of]
    left: list[Of]
    missing_bytes: int | None
    until: datetime | None


def rows(outcome: Outcome) -> list[Row]:
    """The oldest of the chosen files."""
    return [
        {
            "path": row["path"],
            "project": row["project"],
            "user": owners.user_name(row["uid"]),
            "size_bytes": row["size_bytes"],
            "alloc_bytes": row["alloc_bytes"],
            "time": moment(row["time_s"]),
            "state": row["state"].letter,
        }
        for row in outcome.oldest
    ]


def head(outcome: Outcome) -> Row:
    """All but the files."""
    until = outcome.until_day
    return {
        "root": outcome.of.root,
        "policy": outcome.of.name,
        "action": outcome.of.policy.action,
        "scanned_at": outcome.of.scan["started_at"],
        "is_whole": outcome.is_whole,
        "chosen": outcome.chosen,
        "projects": outcome.projects,
        "users": outcome.users,
        "left": outcome.left,
        "missing_bytes": outcome.missing_bytes,
        "until": None if until is None else moment(until * ages.DAY_S),
    }


def moment(time_s: int) -> datetime | None:
    """A time of a file; None for those that calendars do not reach."""
    try:
        return datetime.fromtimestamp(time_s, UTC)
    except (OverflowError, ValueError, OSError):
        return None
