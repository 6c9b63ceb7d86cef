"""Which columns the tables of the pages have as CSV files."""

from datamgr.api import downloads

MOST_ROWS = downloads.MOST_ROWS
csv = downloads.csv

PROJECTS = (
    "filesystem", "project", "path", "scanned_at", "alloc_bytes", "quota_bytes", "bytes_percent",
    "inodes", "quota_inodes", "inodes_percent", "grown_bytes", "grown_inodes", "grown_since",
)  # fmt: skip

_AGED = (
    "path", "project", "user", "group", "size_bytes", "alloc_bytes", "atime_s", "mtime_s",
    "ctime_s", "atime_age_s", "mtime_age_s", "ctime_age_s",
)  # fmt: skip
_OWNED = ("files", "directories", "inodes", "size_bytes", "alloc_bytes")
ENTRIES = (
    "path", "kind", "user", "group", "mode", "size_bytes", "alloc_bytes", "atime_s", "mtime_s",
    "ctime_s",
)  # fmt: skip
# By the part of the page of a project.
COLUMNS = {
    "directories": (*_AGED, "files", "directories"),
    "files": (*_AGED, "nlink"),
    "ages": ("age", "below_s", "files", "size_bytes", "alloc_bytes"),
    "user": ("user", "uid", *_OWNED),
    "group": ("group", "gid", *_OWNED),
    "map": ("name", "alloc_bytes", "percent", "age_s"),
    "trend": (
        "filesystem", "project", "scanned_at", "alloc_bytes", "quota_bytes", "inodes",
        "quota_inodes",
    ),
    "growth": (
        "filesystem", "since", "by", "project", "user", "path", "grown_bytes", "grown_inodes",
        "alloc_bytes", "inodes",
    ),
}  # fmt: skip
