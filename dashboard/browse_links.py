"""Addresses of the file browser, for the pages that lead to it."""

from urllib.parse import urlencode

from dashboard import choices


def to(path: bytes) -> str:
    """The address of a directory's listing."""
    return "/browse?" + urlencode({"at": choices.encode_path(path)})
