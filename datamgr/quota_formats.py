"""What quota systems print, as figures: `mmrepquota -Y`, `lfs quota`, CSV. Pure functions."""

import csv
import io
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from datamgr import units
from datamgr.errors import InvalidError

KIB = 1024


@dataclass(frozen=True)
class Limits:
    """A quota as a file system keeps it: 0 is none, None is unknown.

    From `soft` on a time of grace runs; at `hard` writing fails.
    """

    soft: int | None
    hard: int | None = None

    def effective(self, *, hard: bool) -> int | None:
        """The soft limit, or the hard one where there is no other or `hard` asks for it."""
        first, second = (self.hard, self.soft) if hard else (self.soft, self.hard)
        return first if second is None else first or second


@dataclass(frozen=True)
class QuotaLine:
    """What a quota system says of one fileset, group or project; bytes and inodes.

    `names` are all it is known by, the most telling first. None is unknown.
    """

    number: int
    names: tuple[str, ...]
    quota_bytes: Limits
    quota_inodes: Limits
    usage_bytes: int | None = None
    usage_inodes: int | None = None


def parse_mmrepquota(text: str) -> Iterator[QuotaLine]:
    """The filesets of `mmrepquota -j -Y`; lines about users and groups are passed over.

    Fields are found by the HEADER line before them, values are percent-encoded, sizes are KiB.
    Blocks in doubt are in neither figure.
    Source: IBM Storage Scale, "mmrepquota command"; "mmclidecode command".

    Raises:
        InvalidError: no such output, or one that is cut short.
    """
    header: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split(":")
        if fields[0] != "mmrepquota":
            continue
        if fields[2:3] == ["HEADER"]:
            header = fields
            continue
        if len(fields) != len(header):
            raise InvalidError(f"line {number} does not fit its HEADER line; is it cut short?")
        row = dict(zip(header, map(_percent_decoded, fields), strict=True))
        try:
            if row["quotaType"] == "FILESET":
                yield _of_fileset(number, row)
        except KeyError as error:
            raise InvalidError(f"the HEADER line above line {number} lacks {error}") from error
    if not header:
        raise InvalidError("there is no HEADER line; make the file by `mmrepquota -j -Y DEVICE`")


def _of_fileset(number: int, row: Mapping[str, str]) -> QuotaLine:
    return QuotaLine(
        number,
        (row["name"] or row["filesetname"],),
        Limits(_kib(row["blockQuota"], number), _kib(row["blockLimit"], number)),
        Limits(_count(row["filesQuota"], number), _count(row["filesLimit"], number)),
        _kib(row["blockUsage"], number),
        _count(row["filesUsage"], number),
    )


def _percent_decoded(field: str) -> str:
    return urllib.parse.unquote(field, errors="backslashreplace")


_LFS_TITLE = re.compile(r"Disk quotas for (\w+) (.+?)(?: \([a-z]+ (\d+)\))?:")
# Usage, soft and hard limit and grace of space, then of inodes.
_LFS_VALUES = 8


def parse_lfs_quota(text: str) -> Iterator[QuotaLine]:
    """The groups and projects of one or more outputs of `lfs quota -g` or `-p`, in KiB.

    A `*` marks what is above its quota. A long name of the file system stands on a line of its
    own. With `-v` the lines of single servers are passed over.
    Source: lfs-quota(1).

    Raises:
        InvalidError: no such output, sizes rounded by `-h`, or figures that lfs calls inaccurate.
    """
    names: tuple[str, ...] = ()
    filesystem, found = "", False
    for number, line in enumerate(text.splitlines(), 1):
        if title := _LFS_TITLE.match(line.strip()):
            if title[1] not in ("grp", "group", "prj", "project"):
                raise InvalidError(f"line {number} is about a user; ask lfs by -p or -g")
            names = tuple(dict.fromkeys(name for name in title.groups()[1:] if name))
            continue
        words = line.split()
        if not names or not words or words[0] == "Filesystem":
            continue
        if len(words) == 1:
            filesystem = words[0]
        elif (
            _LFS_VALUES <= len(words) <= _LFS_VALUES + 1 and words[-_LFS_VALUES][0] in "0123456789["
        ):
            filesystem = words[0] if len(words) > _LFS_VALUES else filesystem
            if not filesystem.endswith("_UUID"):
                found = True
                yield _of_lfs(number, names, words[-_LFS_VALUES:])
    if not found:
        raise InvalidError('there are no quotas; make the file by `lfs quota -p ID PATH`, no "-q"')


def _of_lfs(number: int, names: tuple[str, ...], words: list[str]) -> QuotaLine:
    if any("[" in word for word in words):
        raise InvalidError(
            f"line {number} has figures in [], which lfs calls inaccurate; "
            "ask again when all servers answer"
        )
    usage, soft, hard, _, files, files_soft, files_hard, _ = (w.removesuffix("*") for w in words)
    try:
        return QuotaLine(
            number,
            names,
            Limits(_kib(soft, number), _kib(hard, number)),
            Limits(_count(files_soft, number), _count(files_hard, number)),
            _kib(usage, number),
            _count(files, number),
        )
    except InvalidError as error:
        raise InvalidError(f"{error}; `lfs quota -h` rounds, leave out -h") from error


_CSV_NEEDED = ("project", "quota_bytes", "quota_inodes")
_CSV_MORE = ("usage_bytes", "usage_inodes")


def parse_csv(text: str) -> Iterator[QuotaLine]:
    """CSV with the header `project,quota_bytes,quota_inodes[,usage_bytes,usage_inodes]`.

    Whole numbers; 0 is no quota, and an empty field is unknown and leaves what is.
    Source: RFC 4180.

    Raises:
        InvalidError: another header, or a field that is no whole number.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restval=None)
    try:
        header = tuple(reader.fieldnames or ())
        if header not in (_CSV_NEEDED, _CSV_NEEDED + _CSV_MORE):
            raise InvalidError(f"the first line has to be {','.join(_CSV_NEEDED)}[,usage_…]")
        for row in reader:
            number = reader.line_num
            if len(row) != len(header) or None in row.values():
                raise InvalidError(f"line {number} has not the {len(header)} fields of the header")
            figures = {name: _count_or_none(row[name], number) for name in header[1:]}
            yield QuotaLine(
                number,
                (row["project"],),
                Limits(figures["quota_bytes"]),
                Limits(figures["quota_inodes"]),
                figures.get("usage_bytes"),
                figures.get("usage_inodes"),
            )
    except csv.Error as error:
        raise InvalidError(f"line {reader.line_num} is no CSV: {error}") from error


PARSERS: Mapping[str, Callable[[str], Iterator[QuotaLine]]] = {
    "mmrepquota": parse_mmrepquota,
    "lfs-quota": parse_lfs_quota,
    "csv": parse_csv,
}


def parse_map(text: str) -> dict[str, str]:
    """Projects by the quota system's name, from lines `name=project`; `#` begins a comment line.

    Raises:
        InvalidError: a line without `=`, or a name that occurs twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, project = (part.strip() for part in line.partition("="))
        if not (name and separator and project) or name in found:
            raise InvalidError(f"line {number} of the map is not name=project, or name again")
        found[name] = project
    return found


def _kib(word: str, number: int) -> int:
    return _within_bigint(_count(word, number) * KIB, number)


def _count(word: str, number: int) -> int:
    if word == "-":
        return 0
    if not (word.isascii() and word.isdecimal()):
        raise InvalidError(f"line {number}: {word!r} is no whole number")
    if len(word) > len(str(units.MAX_BIGINT)):
        raise InvalidError(f"line {number}: a number of {len(word)} digits is out of range")
    return _within_bigint(int(word), number)


def _count_or_none(word: str, number: int) -> int | None:
    return _count(word, number) if word else None


def _within_bigint(value: int, number: int) -> int:
    if value > units.MAX_BIGINT:
        raise InvalidError(f"line {number}: {value} is out of range")
    return value
