"""Lists of `lfs find --lazy --printf`.

Source: lfs-find(1) of Lustre 2.15 and later.
"""

import re
from collections.abc import Sequence

from scanners.importers.fields import Listed
from scanners.importers.format import ListFormat, PathLast

PRINTF = r"%LF\t%i\t%y\t%m\t%n\t%U\t%G\t%LP\t%s\t%b\t%A@\t%T@\t%C@\t%p\n"

# As PRINTF has them.
_READER = PathLast(
    (
        "fid", "ino", "kind", "mode", "nlink", "uid", "gid", "-", "size_bytes", "blocks",
        "atime_s", "mtime_s", "ctime_s",
    ),
    "\t",
)  # fmt: skip


class LfsFind(ListFormat):
    """Tabs between fields; a line that does not begin with a FID continues the name before."""

    name = "lfs-find"
    start = re.compile(rb"\n(?=\[0x[0-9a-f]{1,16}:0x[0-9a-f]{1,8}:0x[0-9a-f]{1,8}\]\t)")

    def read_block(self, block: bytes) -> Listed:
        """Read whole records at once."""
        return _READER.read_block(block)

    def read_records(self, records: Sequence[bytes]) -> Listed:
        """Read records one by one."""
        return _READER.read_records(records)
