"""Traces of GUFI's `gufi_dir2trace`.

Source: src/trace.c of GUFI (`worktofile`): fields end with the byte 0x1E, records with a newline.
In newer traces each text begins with its length as four hexadecimal digits.
"""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from scanners.importers.fields import PATH, Listed, Unparsable, read_csv
from scanners.importers.format import ListFormat

_DELIMITER = b"\x1e"
# st_blksize is passed over, and so is everything behind the times: the target of a link,
# extended attributes, and what other file systems add.
_LAYOUT = (
    "kind", "ino", "mode_decimal", "nlink", "uid", "gid", "size_bytes", "-", "blocks",
    "atime_s", "mtime_s", "ctime_s",
)  # fmt: skip
# A path may hold the delimiter; then it ends where a type, an inode number and a mode follow.
_HEAD = re.compile(rb"(.*?)\x1e([a-z]\x1e(?:[ \t]*-?[\d.]+[ \t]*\x1e){11})", re.DOTALL)
_EXTERNAL = re.compile(rb"[^\x1e]*\x1ee\x1e")
_LENGTH_DIGITS = 4


class GufiTrace(ListFormat):
    """A newline ends a record only behind a delimiter, so that names and links may hold some."""

    name = "gufi-trace"
    start = re.compile(rb"(?<=\x1e)\n")

    def read_block(self, block: bytes) -> Listed:
        """Read whole records of one number of fields at once."""
        if b"\r" in block:
            raise Unparsable("it holds a carriage return")
        further = block.partition(b"\n")[0].count(_DELIMITER) - len(_LAYOUT)
        if further < 1:
            raise Unparsable("it has too few fields")
        layout = (PATH, *_LAYOUT, *("-" for _ in range(further)))
        fields = read_csv(block, layout, _DELIMITER.decode())
        return Listed(_without_lengths(fields[PATH]), fields.drop_columns(PATH))

    def read_records(self, records: Sequence[bytes]) -> Listed:
        """Read records one by one, leaving out those that only name an external database."""
        paths, heads = [], []
        for record in records:
            if _EXTERNAL.fullmatch(record):
                continue
            path, head = _split(record)
            paths.append(path)
            heads.append(head)
        text = b"".join(head.removesuffix(_DELIMITER) + b"\n" for head in heads)
        return Listed(pa.array(paths, pa.binary()), read_csv(text, _LAYOUT, _DELIMITER.decode()))


def _split(record: bytes) -> tuple[bytes, bytes]:
    digits = record[:_LENGTH_DIGITS]
    if re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
        end = _LENGTH_DIGITS + int(digits, 16)
        match = _HEAD.match(_DELIMITER + record[end + 1 :])
        if match and not match[1] and record[end : end + 1] == _DELIMITER:
            return record[_LENGTH_DIGITS:end], match[2]
    match = _HEAD.match(record)
    if match is None:
        raise Unparsable("it is not `path type inode mode …` between bytes 0x1E")
    return match[1], match[2]


def _without_lengths(paths: pa.Array) -> pa.Array:
    """Take the lengths away if every path begins with its own; paths as they are if none does."""
    digits = pc.dictionary_encode(pc.binary_slice(paths, 0, _LENGTH_DIGITS))
    known = [
        int(text, 16) if re.fullmatch(rb"[0-9a-fA-F]{4}", text) else None
        for text in digits.dictionary.to_pylist()
    ]
    told = pc.take(pa.array(known, pa.int32()), digits.indices)
    lengths = pc.subtract(pc.binary_length(paths), _LENGTH_DIGITS)
    prefixed = pc.fill_null(pc.equal(told, lengths), False)
    if not pc.any(prefixed).as_py():
        return paths
    if not pc.all(prefixed).as_py():
        raise Unparsable("some paths begin with their length and some do not")
    return pc.binary_slice(paths, _LENGTH_DIGITS)
