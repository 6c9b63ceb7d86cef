"""The fields that lists have, and how delimited text becomes columns of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv

from datamgr.errors import InvalidError


class Unparsable(Exception):
    """Records that do not say what their format promises; the message says what is wrong."""


@dataclass(frozen=True)
class Listed:
    """Records of a list: the path of each, and a column for each other field of its layout."""

    paths: pa.Array
    fields: pa.RecordBatch


PATH, IGNORED = "path", "-"

_TEXT, _COUNT, _TIME = pa.binary(), pa.int64(), pa.timestamp("us")
# Whole seconds with up to ten digits behind the point, as `find -printf %T@` writes them.
_SECONDS = pa.decimal128(29, 10)

# What may stand in a layout. Sizes are bytes, `alloc_kb` 1024 and `blocks` 512 of them; `*_s` are
# seconds since 1970, `*_utc` such as 2026-01-15 12:00:00.000000; `mode` is octal as in 100644 or
# 644, `mode_decimal` st_mode as a number, `permissions` as in -rw-r--r--, `kind` a letter as in
# `find -printf %y`. `generation` and `snapshot` are GPFS's, `fid` is Lustre's.
FIELDS = {
    PATH: _TEXT,
    "kind": _TEXT, "mode": _TEXT, "mode_decimal": _COUNT, "permissions": _TEXT,
    "ino": pa.uint64(), "generation": _COUNT, "snapshot": _COUNT, "fid": _TEXT, "dev": pa.uint64(),
    "nlink": _COUNT, "uid": _COUNT, "gid": _COUNT,
    "size_bytes": _COUNT, "alloc_bytes": _COUNT, "alloc_kb": _COUNT, "blocks": _COUNT,
    "atime_s": _SECONDS, "mtime_s": _SECONDS, "ctime_s": _SECONDS,
    "atime_utc": _TIME, "mtime_utc": _TIME, "ctime_utc": _TIME,
}  # fmt: skip

# One of each line is needed.
NEEDED = (
    (PATH,),
    ("mode", "mode_decimal", "permissions", "kind"),
    ("uid",),
    ("gid",),
    ("size_bytes",),
    ("mtime_s", "mtime_utc"),
)


def parse_layout(text: str, fixed: Sequence[str] = ()) -> tuple[str, ...]:
    """The layout that a user wrote, such as `path,kind,uid,gid,size_bytes,mtime_s`.

    `fixed` are the fields that the format itself brings.

    Raises:
        InvalidError: a field is unknown, missing or named twice.
    """
    layout = tuple(name.strip() for name in text.split(","))
    known = ", ".join([*FIELDS, f"{IGNORED} (passed over)"])
    for name in layout:
        if name not in FIELDS and name != IGNORED:
            raise InvalidError(f"--columns: there is no field {name!r}; the fields are {known}")
        if name != IGNORED and (*fixed, *layout).count(name) > 1:
            raise InvalidError(f"--columns: {name} is there twice")
    for choice in NEEDED:
        if not set(choice) & {*fixed, *layout}:
            raise InvalidError(f"--columns: {' or '.join(choice)} is missing")
    return layout


def read_csv(
    text: bytes | pa.Buffer, layout: Sequence[str], delimiter: str, *, quoted: bool = False
) -> pa.RecordBatch:
    """The columns of delimited lines, each of its field's type; a field `-` is passed over.

    Raises:
        Unparsable: a line has too few or many fields, or one that is not of its type.
    """
    names = [name if name != IGNORED else f"-{number}" for number, name in enumerate(layout)]
    kept = [name for name in names if not name.startswith(IGNORED)]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            pyarrow.csv.ReadOptions(
                column_names=names, use_threads=False, block_size=max(len(text), 1)
            ),
            pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
            ),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,
                include_columns=kept,
                column_types={name: FIELDS[name] for name in kept},
                null_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        raise Unparsable(_explained(str(error), layout)) from error
    return table.combine_chunks().to_batches()[0] if table.num_rows else _empty(table.schema)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


def _explained(message: str, layout: Sequence[str]) -> str:
    """An engine's message with the field's name for its number, and without the row's.

    Rows are counted within one block, which says nothing to those who have the file.
    """
    if match := re.search(r"In CSV column #(\d+): .*?: (invalid value .*)", message):
        return f"{match[2]} of {layout[int(match[1])]}"
    if match := re.search(r"Expected (\d+) columns, got (\d+)", message):
        return f"it has {match[2]} fields, not {match[1]}"
    return message.partition("\n")[0]
