"""What somebody asks for, as a value: an action on paths of a project, and how far it goes.

`pitoolbox.submission` puts requests into the queue, `pitoolbox.resolve` makes orders of them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from datamgr.errors import InvalidError
from pitoolbox import paths as below

KIND = "perms"  # of the task that a request is

# Held by the one worker that carries requests out: "perm" in ASCII.
WORKER_LOCK = 0x7065726D

MAX_DEPTH = 2**31


class ActionKind(StrEnum):
    """What can be asked for."""

    CHGRP = "chgrp"
    CHMOD = "chmod"
    CHOWN = "chown"
    SHARE = "share"


# The one argument of each kind.
ARGUMENTS = {
    ActionKind.CHGRP: "group",
    ActionKind.CHMOD: "mode",
    ActionKind.CHOWN: "user",
    ActionKind.SHARE: None,
}

# In JSON, each byte of a path is one character.
_Path = Annotated[bytes, BeforeValidator(lambda v: v.encode("latin-1") if type(v) is str else v)]
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Action:
    """What is to be done, with the one argument that its kind takes."""

    __pydantic_config__ = _STRICT

    kind: ActionKind
    group: str | None = None
    user: str | None = None
    mode: str | None = None

    def __post_init__(self) -> None:
        """Refuse, as an InvalidError, an argument that is missing or too many."""
        given = [name for name in ("group", "mode", "user") if getattr(self, name)]
        needed = ARGUMENTS[self.kind]
        if given != ([needed] if needed else []):
            raise InvalidError(f"{self.kind} takes {f'a {needed}' if needed else 'no argument'}")

    def __str__(self) -> str:
        """As on the command line."""
        words = (self.kind, self.group, self.user, self.mode)
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Request:
    """One request, in names. `paths` are relative to the project's root, `.` is the root itself.

    `max_depth`: 0 is the named entries alone, None is no limit. `override`: for staff, sets the
    rules of ownership and hard links aside. `dry_run`: only say what would change. `undo_of`,
    `retry_of`: the request to take back, or whose failed entries to take again; it gives the
    paths. `confirms`: the preview after which it was asked for. `client`: from where it came.
    """

    __pydantic_config__ = _STRICT

    project: str
    action: Action
    paths: tuple[_Path, ...]
    recursive: bool = False
    max_depth: Annotated[int, Field(ge=0, le=MAX_DEPTH)] | None = None
    only: Literal["files", "directories"] | None = None
    override: bool = False
    dry_run: bool = False
    undo_of: int | None = None
    retry_of: int | None = None
    confirms: int | None = None
    client: str | None = None
    notify: bool = False

    def __post_init__(self) -> None:
        """Refuse, as an InvalidError, what does not fit together."""
        if self.undo_of is not None and self.retry_of is not None:
            raise InvalidError("a request either undoes an earlier one or retries it")
        if self.is_follow_up and self.paths:
            raise InvalidError("the paths of an undo or a retry are those of the earlier request")
        if not self.is_follow_up and not self.paths:
            raise InvalidError("nothing is selected: name a path, such as . for the whole project")
        if self.max_depth is not None and not self.recursive:
            raise InvalidError("a depth is for recursive requests; say --recursive too")
        for path in self.paths:
            below.require_plain(path)

    @property
    def is_follow_up(self) -> bool:
        """Whether its entries are those of an earlier request."""
        return self.undo_of is not None or self.retry_of is not None

    @property
    def key(self) -> str:
        """The key of its task."""
        return key_of(self.project)

    def to_params(self) -> dict[str, Any]:
        """As the parameters of a task."""
        return asdict(self) | {"paths": [path.decode("latin-1") for path in self.paths]}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "Request":
        """The reverse of `to_params`, believing nothing.

        Raises:
            InvalidError: these are no parameters of a request, or do not fit together.
        """
        try:
            return _REQUEST.validate_json(json.dumps(params))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidError(f"no permission request: {where}: {first['msg']}") from error


_REQUEST = TypeAdapter(Request)


def key_of(project: str) -> str:
    """The key of all requests about a project, which run in the order of their submission."""
    return f"{KIND}:{project}"
