"""Reading web pages in tests."""

import csv
import html
import io
import re
from collections.abc import Iterator
from typing import Any

from datamgr.api.app import ROUTERS, _load


def text_of(page: str) -> str:
    """The words of a page, without its tags, with single spaces."""
    words = re.sub(r"<[^>]*>", " ", re.sub(r"</?(bdi|wbr)>", "", page))
    return re.sub(r"\s+", " ", html.unescape(words))


def links_of(page: str) -> list[str]:
    """Where its links lead."""
    return [html.unescape(link) for link in re.findall(r'<a [^>]*href="([^"]*)"', page)]


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of every route of the application, of each feature's too."""
    for target in ROUTERS:
        for route in _flat(_load(target).routes, ""):
            yield from ((method, route[1]) for method in sorted(route[0].methods or ()))


def _flat(found: Any, prefix: str) -> Iterator[tuple[Any, str]]:
    for route in found:
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield route, prefix + route.path
        else:
            yield from _flat(inner.routes, prefix)
