"""Lists of lester's action fslist, which reads the metadata target of a Lustre file system.

Source: action-fslist.c of lester.
"""

import re
from collections.abc import Sequence

from scanners.importers.fields import Listed, Unparsable
from scanners.importers.format import Incomplete, ListFormat, PathLast

_HEADER = re.compile(rb"#IDENT#\|[^\n]*\n")
_FOOTER = re.compile(rb"(?:\A|(?<=\n))#complete#\d*\r?\n?\Z")
_FID = re.compile(rb"\[?0x[0-9a-f]{1,16}:0x[0-9a-f]{1,8}:0x[0-9a-f]{1,8}\]?")
_BEGUN = 3  # the field of the header that says when
# Arrow takes numbers with these around them, and so for records what only continues a name.
_PADDED = (b"\n ", b"\n\t", b" |", b"\t|", b"| ", b"|\t")

_FIELDS = ("atime_s", "ctime_s", "mtime_s", "uid", "gid", "mode", "size_bytes", "ino", "-")
_PLAIN = PathLast(_FIELDS, "|")
_WITH_FID = PathLast((*_FIELDS, "fid"), "|")


class Lester(ListFormat):
    """`|` between fields, nothing escaped; a FID may stand before the path.

    A line that does not begin with two numbers continues the name before.
    """

    name = "lester"
    start = re.compile(rb"\n(?=-?\d+\|-?\d+\|)")

    def header(self, beginning: bytes) -> int:
        """The line #IDENT#."""
        match = _HEADER.match(beginning)
        if match is None:
            raise Incomplete("its first line does not begin with #IDENT#|")
        return match.end()

    def footer(self, ending: bytes) -> int:
        """The line #complete#."""
        match = _FOOTER.search(ending)
        if match is None:
            raise Incomplete("its last line is not #complete#, so it was cut short")
        return len(ending) - match.start()

    def taken_at_s(self, beginning: bytes) -> int | None:
        """When the scan began, by the header."""
        fields = beginning.partition(b"\n")[0].split(b"|")
        return int(fields[_BEGUN]) if len(fields) > _BEGUN and fields[_BEGUN].isdigit() else None

    def read_block(self, block: bytes) -> Listed:
        """Read records that all have a FID, or that all have none."""
        if any(padded in block for padded in _PADDED):
            raise Unparsable("there are spaces beside its separators")
        try:
            return _PLAIN.read_block(block)
        except Unparsable:
            return _WITH_FID.read_block(block)

    def read_records(self, records: Sequence[bytes]) -> Listed:
        """Read records one by one: a path begins with a slash, a FID does not."""
        with_fid = {_has_fid(record) for record in records}
        if len(with_fid) > 1:
            raise Unparsable("some records have a FID and some have none")
        return (_WITH_FID if with_fid == {True} else _PLAIN).read_records(records)


def _has_fid(record: bytes) -> bool:
    fields = record.split(b"|", len(_FIELDS) + 1)
    return len(fields) > len(_FIELDS) + 1 and bool(_FID.fullmatch(fields[len(_FIELDS)]))
