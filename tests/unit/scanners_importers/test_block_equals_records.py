"""Reading a block at once either declines, or gives what reading record by record gives."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import example, given, settings

from scanners.importers import raw
from scanners.importers.fields import Listed, Unparsable
from scanners.importers.formats import by_name
from scanners.importers.places import Bounds

# What separates, quotes, escapes or ends something in one of the formats.
ODD = st.sampled_from(
    [b"|", b"\t", b"\n", b"\r", b"\x1e", b",", b'"', b" -- ", b"%", b"%41", b"%00", b"=3D", b" ",
     b"\0", b"\xff", b"a", b"/", b"//", b"/./", b"1|2|", b"\n1|2|", b"\n[0x1:0x1:0x0]\t", b"."]
)  # fmt: skip
NAMES = st.lists(ODD, max_size=6).map(b"".join)
NUMBERS = st.sampled_from([b"0", b"7", b"-1", b"4096", b"", b"x", b"9" * 19, b"1.5", b" 3"])
FORMATS = {
    "gpfs-list": b"%(n)s 5 0  -rw-r--r--%%7C1%%7C%(n)s%%7C5%%7C%(m)s%%7C4%%7C"
    b"2026-01-15%%2012%%3A00%%3A00%%7C2026-01-15%%7C1969-12-31%%2023%%3A59%%3A58.5 -- /%(name)s\n",
    "lester": b"%(n)s|2|3|%(m)s|5|100644|%(n)s|8|12:3f|/%(name)s\n",
    "lfs-find": b"[0x1:0x2:0x0]\t%(n)s\tf\t644\t1\t%(m)s\t5\t0\t%(n)s\t8\t1.5\t-2.5\t3\t"
    b"/%(name)s\n",
    "gufi-trace": b"/%(name)s\x1ef\x1e%(n)s\x1e33188\x1e1\x1e%(m)s\x1e5\x1e6\x1e4096\x1e8\x1e1\x1e2"
    b"\x1e3\x1e\x1e\x1e0\x1e0\x1e0\x1e0\x1e0\x1e\x1e\x1e0\x1e\n",
    "csv": b'"/%(name)s",f,%(n)s,%(m)s,5,6\n',
}
RECORD = st.fixed_dictionaries({b"n": NUMBERS, b"m": NUMBERS, b"name": NAMES})


def rows(listed: Listed) -> Any:
    converted = raw.convert(listed, Bounds())
    parents = dict(zip(*(column.to_pylist() for column in converted.parents.columns), strict=True))
    files = converted.files.to_pylist()
    return [{**row, "parent": parents[row["parent"]]} for row in files]


def attempt(read: Any, argument: Any) -> Any:
    try:
        return rows(read(argument))
    except Unparsable:
        return None


# The second line continues the name before: it does not begin with a digit.
CONTINUED = [
    {b"n": b"0", b"m": b"0", b"name": b"\t"},
    {b"n": b" 3", b"m": b"0", b"name": b"a"},
]


@settings(max_examples=250, deadline=None)
@example("lester", CONTINUED)
@given(st.sampled_from(sorted(FORMATS)), st.lists(RECORD, min_size=1, max_size=4))
def test_a_block_is_its_records(name: str, records: list[dict[bytes, bytes]]) -> None:
    columns = "path,kind,size_bytes,uid,gid,mtime_s" if name == "csv" else None
    list_format = by_name(name, columns)
    block = b"".join(FORMATS[name] % record for record in records)
    at_once = attempt(list_format.read_block, block)
    cut = list_format.records(block)
    assert b"".join(record + b"\n" for record in cut) == block
    one_by_one = [attempt(list_format.read_records, [record]) for record in cut]
    if at_once is not None:
        assert at_once == [row for found in one_by_one if found is not None for row in found]
        assert None not in one_by_one
