"""Paths as bytes: where they lie and how they are shown."""


def is_below(path: bytes, directory: bytes) -> bool:
    """Whether `path` is `directory` or below it; both absolute and normalised."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def display_name(name: bytes) -> str:
    """A name as text that PostgreSQL takes and that different names never share."""
    return name.decode("utf-8", "backslashreplace")
