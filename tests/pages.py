"""Reading web pages in tests."""

import csv
import html
import io
import re


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
