"""Paths as bytes: where they lie and how they are shown."""


def is_below(path: bytes, directory: bytes) -> bool:
    """Whether `path` is `directory` or below it; both absolute and normalised."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def display_name(name: bytes) -> str:
    """A name as text that PostgreSQL takes and that different names never share.

    A backslash is doubled, for one alone begins the code of a byte that is no UTF-8.
    """
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
