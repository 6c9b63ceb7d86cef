"""What a list's fields say about inodes, as the columns of a scan."""

import re
import stat
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from scanners import record
from scanners.importers.fields import Unparsable

_TYPE_OF_LETTER = {
    letter: number << 12 for number, letter in enumerate(record.KINDS) if letter != "?"
} | {"-": stat.S_IFREG}
_PERMISSIONS = re.compile(rb"([-dlpscb])([r-][w-][xsS-])([r-][w-][xsS-])([r-][w-][xtT-])[.+@]?")
# Ages are differences of times, which must fit into 64 bits as well.
_FURTHEST_S = 1 << 62


def columns(fields: pa.RecordBatch) -> list[pa.Array]:
    """The columns that every inode has, in the order of `record`, from the fields of a list.

    Without blocks the size stands for them; without a link count it is 0, which means unknown,
    or 1 where there is no inode number either. Times that are missing are the modification's.

    Raises:
        Unparsable: a value is out of range.
    """
    present = set(fields.schema.names)
    rows = fields.num_rows

    def constant(value: int) -> pa.Array:
        return pa.repeat(pa.scalar(value, pa.int64()), rows)

    size = fields["size_bytes"]
    ino, nlink = constant(0), constant(1)
    if "ino" in present:
        ino = fields["ino"].view(pa.int64())
        nlink = fields["nlink"] if "nlink" in present else constant(0)
    alloc = fields["alloc_bytes"] if "alloc_bytes" in present else size
    for name, factor in (("alloc_kb", 1024), ("blocks", 512)):
        if name in present:
            alloc = _multiplied(fields[name], factor)
    mtime = _time(fields, "mtime", None)
    atime, ctime = _time(fields, "atime", mtime), _time(fields, "ctime", mtime)
    for name, column in (("uid", fields["uid"]), ("gid", fields["gid"]), ("nlink", nlink),
                         ("size", size), ("allocation", alloc)):  # fmt: skip
        if rows and pc.min(column).as_py() < 0:
            raise Unparsable(f"a {name} is negative")
    mode = _mode(fields, present)
    device = _device(fields, present, constant)
    return [mode, ino, device, nlink, fields["uid"], fields["gid"], size, atime, mtime, ctime,
            alloc]  # fmt: skip


def _mode(fields: pa.RecordBatch, present: set[str]) -> pa.Array:
    if "mode_decimal" in present:
        mode = _cast(fields["mode_decimal"], pa.int32())
    elif "permissions" in present:
        mode = _by_value(fields["permissions"], _mode_of_permissions)
    elif "mode" in present:
        mode = _by_value(fields["mode"], _mode_of_octal)
    else:
        mode = pa.repeat(pa.scalar(0, pa.int32()), fields.num_rows)
    if "kind" in present:
        kind = _by_value(fields["kind"], _mode_of_letter)
        permissions = pc.bit_wise_and(mode, pa.scalar(~record.FILE_TYPE_MASK, pa.int32()))
        mode = pc.bit_wise_or(permissions, kind)
    kinds = pc.unique(pc.shift_right(mode, 12)).to_pylist()
    if any(not 0 <= number < 16 or record.KINDS[number] == "?" for number in kinds):
        raise Unparsable("a mode does not tell the type of the file")
    return mode


def _device(
    fields: pa.RecordBatch, present: set[str], constant: Callable[[int], pa.Array]
) -> pa.Array:
    """What tells inodes of one number apart: generation and snapshot, or the FID's sequence."""
    if "dev" in present:
        return fields["dev"].view(pa.int64())
    if "fid" in present:
        first = pc.list_slice(pc.split_pattern(fields["fid"], ":", max_splits=1), 0, 1).flatten()
        return _by_value(first, _sequence_of_fid, pa.uint64()).view(pa.int64())
    if "generation" in present:
        return pc.bit_wise_xor(fields["generation"], pc.shift_left(fields["snapshot"], 32))
    return constant(0)


def _time(fields: pa.RecordBatch, name: str, default: pa.Array | None) -> pa.Array:
    if f"{name}_utc" in fields.schema.names:
        return pc.floor_temporal(fields[f"{name}_utc"], unit="second").cast(pa.timestamp("s")).cast(
            pa.int64()
        )  # fmt: skip
    if f"{name}_s" not in fields.schema.names:
        return default
    # find(1) writes 1.5 s before 1970 as -2.5: what stands before the point is tv_sec.
    seconds = _cast(pc.trunc(fields[f"{name}_s"]), pa.int64())
    limits = pc.min_max(seconds).as_py()
    if len(seconds) and (limits["min"] < -_FURTHEST_S or limits["max"] > _FURTHEST_S):
        raise Unparsable("a time is out of range")
    return seconds


def _by_value(
    column: pa.Array, meaning: Callable[[bytes], int], type_: pa.DataType | None = None
) -> pa.Array:
    """Numbers for texts of which there are few different ones."""
    encoded = pc.dictionary_encode(column)
    try:
        values = [meaning(value) for value in encoded.dictionary.to_pylist()]
    except (KeyError, ValueError) as error:
        raise Unparsable("a mode, type or FID is malformed") from error
    return pc.take(pa.array(values, type_ or pa.int32()), encoded.indices)


def _mode_of_permissions(text: bytes) -> int:
    match = _PERMISSIONS.fullmatch(text)
    if match is None:
        raise ValueError
    mode = 0
    for letter in b"".join(match.groups()[1:]):
        mode = mode << 1 | (letter not in b"-ST")
    specials = zip((2, 3, 4), (stat.S_ISUID, stat.S_ISGID, stat.S_ISVTX), strict=True)
    mode |= sum(bit for group, bit in specials if match[group][2:] in b"sStT")
    return mode | _TYPE_OF_LETTER[match[1].decode()]


def _mode_of_octal(text: bytes) -> int:
    if not re.fullmatch(rb"[0-7]{1,7}", text):
        raise ValueError
    return int(text, 8)


def _mode_of_letter(text: bytes) -> int:
    return _TYPE_OF_LETTER[text.decode("ascii", "replace")]


def _sequence_of_fid(text: bytes) -> int:
    """The sequence of `[0x200000400:0x1:0x0]`, brackets or none. Source: lfs-fid2path(1)."""
    if not re.fullmatch(rb"\[?0x[0-9a-f]{1,16}", text):
        raise ValueError
    return int(text.lstrip(b"["), 16)


def _multiplied(column: pa.Array, factor: int) -> pa.Array:
    try:
        return pc.multiply_checked(column, factor)
    except pa.ArrowInvalid as error:
        raise Unparsable("an allocation is out of range") from error


def _cast(column: pa.Array, type_: pa.DataType) -> pa.Array:
    try:
        return column.cast(type_)
    except pa.ArrowInvalid as error:
        raise Unparsable("a mode or time is out of range") from error
