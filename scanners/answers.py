"""What the API answers about scans and usage: the rows of the commands' `--json`, typed.

Sizes are bytes; ages are seconds at the scan; hard links count once, but for the keys that say
`all`. A path is display text; where that differs from its bytes, `_b64` has them in base64.
"""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from datamgr.display import encode_row
from scanners.queries import Row as QueryRow

RowT = TypeVar("RowT")


class Row(BaseModel):
    """One row of an answer."""

    model_config = ConfigDict(extra="ignore")


class Scanned(Row):
    """A scan that an answer rests on, and how many entries it could not count."""

    id: int
    filesystem: str
    scanned_at: datetime
    not_counted: int
    atime_policy: str


class Answer(BaseModel, Generic[RowT]):
    """Rows under the name of their kind, as the commands print them."""

    schema_: str = Field(alias="schema")
    rows: list[RowT]


class UsageAnswer(Answer[RowT], Generic[RowT]):
    """Rows with the scans that they come from."""

    scans: list[Scanned]


class ProjectUsage(Row):
    """A project's totals against today's quota; percentages are null without one."""

    filesystem: str
    number: int
    project: str
    path: str | None
    path_b64: str | None = None
    scanned_at: datetime
    files: int
    directories: int
    inodes: int
    size_bytes: int
    alloc_bytes: int
    files_all_links: int
    size_all_bytes: int
    alloc_all_bytes: int
    quota_bytes: int | None
    quota_inodes: int | None
    bytes_percent: float | None
    inodes_percent: float | None


class OwnerUsage(Row):
    """Totals of one account (`user`, `uid`) or one unix group (`group`, `gid`)."""

    user: str | None = None
    uid: int | None = None
    group: str | None = None
    gid: int | None = None
    files: int
    directories: int
    inodes: int
    size_bytes: int
    alloc_bytes: int
    alloc_all_bytes: int


class Aged(Row):
    """What files and directories have in common; a directory's times are its newest file's."""

    path: str
    path_b64: str | None = None
    project: str
    uid: int
    gid: int
    user: str
    group: str
    size_bytes: int
    alloc_bytes: int
    atime_s: int | None
    mtime_s: int | None
    ctime_s: int | None
    atime_age_s: int | None
    mtime_age_s: int | None
    ctime_age_s: int | None


class TopFile(Aged):
    """One of the biggest files."""

    nlink: int


class TopDirectory(Aged):
    """One of the biggest directories, with everything below."""

    files: int
    directories: int


class Directory(TopDirectory):
    """A directory with everything below; `error` says why it could not be listed completely."""

    scan_id: int
    dir_id: int
    mode: int
    files_all_links: int
    size_all_bytes: int
    alloc_all_bytes: int
    error: str | None


class AgeBin(Row):
    """Files of one age; `below_s` is null for the oldest."""

    bin: int
    age: str
    below_s: int | None
    files: int
    size_bytes: int
    alloc_bytes: int


class GrowthRow(Row):
    """What a project, user or directory (`by`) grew between two scans."""

    by: Literal["project", "user", "directory"]
    filesystem: str
    project: str | None = None
    user: str | None = None
    uid: int | None = None
    path: str | None = None
    path_b64: str | None = None
    inodes: int
    alloc_bytes: int
    grown_inodes: int
    grown_bytes: int


class Pair(Row):
    """Two scans of a file system that were compared."""

    filesystem: str
    old_id: int
    old_at: datetime
    new_id: int
    new_at: datetime


class ScanRow(Row):
    """One scan; `errors` counts by reason what it could not count, `timings_s` are its steps."""

    id: int
    filesystem: str
    state: str
    source: str
    host: str
    roots: list[str]
    roots_b64: list[str | None] | None = None
    started_at: datetime
    finished_at: datetime | None
    published_at: datetime | None
    entries: int | None
    directories: int | None
    errors: dict[str, int]
    error_count: int
    failure: str | None
    atime_policy: str
    timings_s: dict[str, float]
    current: bool


class ProjectsAnswer(UsageAnswer[ProjectUsage]):
    """Projects, biggest first."""

    project: str | None


class OwnersAnswer(UsageAnswer[OwnerUsage]):
    """Users or groups, biggest first."""

    project: str | None


# Left to right: a directory has counts that a file lacks, so it is tried first.
Top = Annotated[TopDirectory | TopFile, Field(union_mode="left_to_right")]


class TopAnswer(UsageAnswer[Top]):
    """The biggest files or directories."""

    project: str | None
    user: str | None


class DirectoryAnswer(UsageAnswer[Directory]):
    """A directory, and those directly in it, biggest first."""

    directory: Directory


class AgesAnswer(UsageAnswer[AgeBin]):
    """Files by age, youngest first."""

    basis: Literal["atime", "mtime", "ctime"]
    project: str | None
    user: str | None


class GrowthAnswer(Answer[GrowthRow]):
    """What grew, most first within each kind and file system."""

    scans: list[Pair]


def of(schema: str, rows: list[QueryRow], **head: object) -> QueryRow:
    """The answer before it is typed: the object that a command prints with `--json`."""
    return {"schema": schema, **encode_row(head), "rows": [encode_row(row) for row in rows]}
