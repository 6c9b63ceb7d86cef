"""CSV with columns that the user names: what any other scanner can be made to write.

Source: RFC 4180; a quotation mark within quotes is doubled.
"""

import re
from collections.abc import Sequence

from datamgr.errors import InvalidError
from scanners.importers.fields import PATH, Listed, Unparsable, parse_layout, read_csv
from scanners.importers.format import ListFormat

_QUOTED = re.compile(rb'(?:(?<=[,\n])|\A)"[^"]*(?:""[^"]*)*"(?=[,\r\n]|\Z)')


class Delimited(ListFormat):
    """Commas between fields, quotation marks around what holds commas, quotes or newlines."""

    name = "csv"
    # Whether a newline is in quotes shows only from the beginning.
    starts_anywhere = False
    may_end_abruptly = True

    def __init__(self, columns: str | None) -> None:
        """`columns` are the fields in their order.

        Raises:
            InvalidError: they are not given, or not enough.
        """
        if columns is None:
            raise InvalidError(
                "--from csv needs --columns, such as path,kind,uid,gid,size_bytes,mtime_s"
            )
        self._layout = parse_layout(columns)

    def next_record(self, text: bytes, begin: int) -> int:
        """Where the first record at or after `begin` starts; the text begins with a record."""
        end = text.find(b"\n", max(begin - 1, 0))
        quotes = text.count(b'"', 0, end)
        while end != -1 and quotes % 2:
            following = text.find(b"\n", end + 1)
            quotes += text.count(b'"', end, following)
            end = following
        return -1 if end == -1 or end + 1 >= len(text) else end + 1

    def records(self, block: bytes) -> list[bytes]:
        """The records of a block: lines, joined while a quotation mark is open."""
        found: list[bytes] = []
        is_open = False
        for line in block.removesuffix(b"\n").split(b"\n"):
            if is_open:
                found[-1] += b"\n" + line
            else:
                found.append(line)
            is_open ^= line.count(b'"') % 2 == 1
        return found

    def read_block(self, block: bytes) -> Listed:
        """Read whole records at once."""
        if b'"' in block and b'"' in _QUOTED.sub(b"", block):
            raise Unparsable("its quotation marks do not match")
        fields = read_csv(block, self._layout, ",", quoted=True)
        return Listed(fields[PATH], fields.drop_columns(PATH))

    def read_records(self, records: Sequence[bytes]) -> Listed:
        """Read records together: for quotes there is no other way."""
        if any(not record.strip() for record in records):
            raise Unparsable("it is empty")
        listed = self.read_block(b"\n".join(records) + b"\n")
        if listed.fields.num_rows != len(records):
            raise Unparsable("its quotation marks do not match")
        return listed
