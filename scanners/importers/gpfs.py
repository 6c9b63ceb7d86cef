"""File lists of GPFS policies: `mmapplypolicy -P deploy/gpfs/scan.policy -I defer -f PREFIX`.

A record is `Inode Generation SnapId  SHOW -- Path`, SHOW and path percent-encoded.
Source: IBM Storage Scale documentation, "File list format" and "Policy rules: Terms" (ESCAPE).
"""

import binascii
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from scanners.importers.fields import Listed, Unparsable, parse_layout, read_csv
from scanners.importers.format import ListFormat

# What deploy/gpfs/scan.policy shows.
SHOWN = "permissions,nlink,uid,gid,size_bytes,alloc_kb,atime_utc,mtime_utc,ctime_utc"
# What GPFS itself writes in front of it; the two spaces before SHOW leave an empty field.
_NUMBERS = ("ino", "generation", "snapshot")
_SPACES = 6  # in a record whose parts are encoded

_RECORD = re.compile(rb"(\d+) (\d+) (\d+)  (\S+)")
_ENCODED = re.compile(rb"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")
_PREPARED = re.compile(rb"[0-9a-fA-F:\-]+:\d+!")

# To NUL the ends of records and of their heads, to `|` the spaces, to quoted-printable the rest.
_MARKS = bytes.maketrans(b"\n %", b"\0|=")
# Printable ASCII, without what only `_MARKS` makes.
_EXPECTED = bytes(set(range(0x20, 0x7F)) - set(b"|=")) + b"\n"


class GpfsList(ListFormat):
    """Everything is percent-encoded, so that a newline ends a record and ` -- ` ends its head."""

    name = "gpfs-list"

    def __init__(self, shown: str | None = None) -> None:
        """`shown` are the fields that SHOW joins by `|`; default those of our policy file."""
        self._layout = (*_NUMBERS, "-", *parse_layout(shown or SHOWN, ("path", *_NUMBERS)))

    def read_block(self, block: bytes) -> Listed:
        """Read whole records at once: %XX is decoded as quoted-printable, in C, without a loop."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        records = block.count(b"\n")
        if b"%00" in block or block.translate(None, _EXPECTED):
            raise Unparsable("it is not encoded as expected")
        if block.count(b" ") != _SPACES * records:
            raise Unparsable("it has too few or many spaces")
        marked = block.replace(b" -- ", b"\n").translate(_MARKS)
        text = binascii.a2b_qp(marked)
        if len(text) != len(marked) - 2 * marked.count(b"="):
            raise Unparsable("a percent sign is not followed by two hexadecimal digits")
        parts = pc.split_pattern(pa.scalar(text, pa.binary()), b"\0").values
        if len(parts) != 2 * records + 1:
            raise Unparsable("a record has no ` -- `, or two")
        # Heads and paths take turns; a newline ends the last.
        pairs = pa.FixedSizeListArray.from_arrays(parts.slice(0, 2 * records), 2)
        heads = pa.ListArray.from_arrays(pa.array([0, records], pa.int32()),
                                         pc.list_element(pairs, 0))  # fmt: skip
        fields = read_csv(pc.binary_join(heads, b"\n")[0].as_buffer(), self._layout, "|")
        if fields.num_rows != records:
            raise Unparsable("a field holds a newline")
        return Listed(pc.list_element(pairs, 1), fields)

    def read_records(self, records: Sequence[bytes]) -> Listed:
        """Read records one by one; splits at the first ` -- `, for a path may hold more."""
        paths, heads = [], []
        for record in records:
            head, mark, path = record.removesuffix(b"\r").partition(b" -- ")
            match = _RECORD.fullmatch(head)
            if match is None or not mark:
                raise Unparsable(_what_is_wrong(record, head))
            fields = unquote(match[4])
            if b"\n" in fields or b"\r" in fields:
                raise Unparsable("a field holds a newline")
            heads.append(b"|".join((*match.groups()[:3], b"", fields)))
            paths.append(unquote(path))
        text = b"\n".join(heads) + b"\n"
        return Listed(pa.array(paths, pa.binary()), read_csv(text, self._layout, "|"))


def unquote(text: bytes) -> bytes:
    """Percent-encoded text as bytes; `+` is itself.

    Raises:
        Unparsable: it holds what ESCAPE would have encoded, or a lone percent sign.
    """
    if not _ENCODED.fullmatch(text):
        raise Unparsable("it is not percent-encoded; the policy needs ESCAPE '%/'")
    return binascii.a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))


def _what_is_wrong(record: bytes, head: bytes) -> str:
    if _PREPARED.match(record):
        return "it is of `-I prepare`; run mmapplypolicy with -I defer"
    if re.fullmatch(rb"\d+ \d+ \d+ *", head):
        return "it shows no attributes; use deploy/gpfs/scan.policy"
    return "it is not `Inode Generation SnapId  SHOW -- Path` with an encoded SHOW"
