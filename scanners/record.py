"""What a scan records: the columns of the Parquet files between scanning and rolling up.

Names and paths are bytes. Times are whole seconds since 1970, before which they are negative.
`ino` and `dev` are the kernel's unsigned numbers as two's complement int64.
"""

import pyarrow as pa

_INODE = [
    pa.field("mode", pa.int32(), nullable=False),
    pa.field("ino", pa.int64(), nullable=False),
    pa.field("dev", pa.int64(), nullable=False),
    pa.field("nlink", pa.int64(), nullable=False),
    pa.field("uid", pa.int64(), nullable=False),
    pa.field("gid", pa.int64(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("atime_s", pa.int64(), nullable=False),
    pa.field("mtime_s", pa.int64(), nullable=False),
    pa.field("ctime_s", pa.int64(), nullable=False),
    pa.field("alloc_bytes", pa.int64(), nullable=False),
]

# Everything that is no directory; sorted by dir_id inside each part, so that readers of one
# directory skip the other row groups. `kind` is a letter as in `find -printf %y`.
ENTRIES = pa.schema(
    [
        pa.field("dir_id", pa.int64(), nullable=False),
        pa.field("name", pa.binary(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        *_INODE,
    ]
)

# `ancestors` are the dir_ids from the root down to the directory itself, which turns recursive
# totals into one grouping. `error` says why a directory could not be listed (completely).
# `access` says who may list it (see `scanners.access`); None in scans of earlier versions.
DIRS = pa.schema(
    [
        pa.field("dir_id", pa.int64(), nullable=False),
        pa.field("parent_id", pa.int64()),
        pa.field("path", pa.binary(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),
        pa.field("ancestors", pa.list_(pa.int64()), nullable=False),
        pa.field("error", pa.string()),
        pa.field("access", pa.string()),
        *_INODE,
    ]
)

# What could not be counted, or was left out on purpose; `reason` is one of REASONS.
ERRORS = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)

SCHEMAS = {"entries": ENTRIES, "dirs": DIRS, "errors": ERRORS}

REASONS = {
    "permission": "may not be read by the scanning account",
    "vanished": "was removed during the scan",
    "replaced": "was replaced during the scan",
    "io": "could not be read",
    "depth": "is deeper than scan.max_depth and was not entered",
    "mount": "is a mount point or another file system and was not entered",
    "unparsable": "is a line of the list that could not be read",
    "repeated": "is listed more than once and was counted once",
    "moved": "has one link but several paths in the list and was counted once",
}

FILE_TYPE_MASK = 0o170000
# Index: the file type bits of the mode, shifted right by 12. Source: inode(7).
KINDS = ["?", "p", "c", "?", "d", "?", "b", "?", "f", "?", "l", "?", "s", "?", "?", "?"]
