"""What every format of lists has to answer."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from scanners.importers.fields import PATH, Listed, Unparsable, read_csv

# More than header and footer of any format.
FRAME_BYTES = 4096


class Incomplete(Exception):
    """A list lacks its beginning or its end; the message says which."""


class ListFormat(ABC):
    """One format. A record ends with a newline; names may hold further ones.

    Blocks are read as a whole by `read_block`, which may decline anything unusual. What it
    declines is cut into records and read by `read_records`, which is exact.
    """

    name: str
    # Matches the newline in front of a record.
    start = re.compile(rb"\n")
    # Whether that can be told without reading everything before.
    starts_anywhere = True
    # Whether the last record may lack its newline.
    may_end_abruptly = False

    def header(self, beginning: bytes) -> int:
        """The length of what stands before the first record.

        Raises:
            Incomplete: it is not there.
        """
        return 0

    def footer(self, ending: bytes) -> int:
        """The length of what stands behind the last record.

        Raises:
            Incomplete: it is not there.
        """
        return 0

    def taken_at_s(self, beginning: bytes) -> int | None:
        """When the list was begun, by its header; None if that does not say."""
        return None

    def next_record(self, text: bytes, begin: int) -> int:
        """Where the first record at or after `begin` starts, which is above 0; -1 if none does."""
        match = self.start.search(text, max(begin - 1, 0))
        return -1 if match is None or match.end() >= len(text) else match.end()

    def records(self, block: bytes) -> list[bytes]:
        """The records of a block, without the newline at their end."""
        cuts = [0]
        while (cut := self.next_record(block, cuts[-1] + 1)) != -1:
            cuts.append(cut)
        return [
            block[begin:end].removesuffix(b"\n")
            for begin, end in zip(cuts, [*cuts[1:], len(block)], strict=True)
        ]

    @abstractmethod
    def read_block(self, block: bytes) -> Listed:
        """Read whole records at once.

        Raises:
            Unparsable: something is unusual in it.
        """

    @abstractmethod
    def read_records(self, records: Sequence[bytes]) -> Listed:
        """Read records one by one; slow and exact.

        Raises:
            Unparsable: one of them is malformed.
        """


@dataclass(frozen=True)
class PathLast:
    """Fields between delimiters and then the path, in which nothing is escaped."""

    layout: tuple[str, ...]
    delimiter: str

    def read_block(self, block: bytes) -> Listed:
        """Read whole records at once; declines names with a newline or the delimiter."""
        # The reader of CSV takes a carriage return, too, for the end of a line.
        if b"\r" in block:
            raise Unparsable("it holds a carriage return")
        fields = read_csv(block, (*self.layout, PATH), self.delimiter)
        return Listed(fields[PATH], fields.drop_columns(PATH))

    def read_records(self, records: Sequence[bytes]) -> Listed:
        """Split off so many fields; the rest is the path, whatever it holds."""
        delimiter = self.delimiter.encode()
        paths, heads = [], []
        for record in records:
            *fields, path = record.split(delimiter, len(self.layout))
            head = delimiter.join(fields)
            if len(fields) < len(self.layout) or b"\n" in head or b"\r" in head:
                raise Unparsable(f"it has {len(fields) + 1} fields, not {len(self.layout) + 1}")
            heads.append(head)
            paths.append(path)
        text = b"\n".join(heads) + b"\n"
        return Listed(pa.array(paths, pa.binary()), read_csv(text, self.layout, self.delimiter))
