"""Lists of paths, as `find` and `datamgr find` print them, cut into what one request takes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from tiering.questions import MAX_PATHS

_PATHS_BYTES = 1 << 20  # of the paths in one question

null = click.option("--null", "-0", "null", is_flag=True, help="Paths of -f end with NUL.")


def files_from(help_text: str) -> Callable[[Any], Any]:
    """The option -f."""
    return click.option(
        "--files-from", "-f", "files_from", metavar="LIST", type=click.File("rb"), help=help_text
    )


def listed(file: Any, *, null: bool) -> Iterable[bytes]:
    """The paths in a list."""
    if file is None:
        return []
    text: bytes = file.read()
    return [path for path in text.split(b"\0" if null else b"\n") if path]


def portions(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    """What fits into one request each."""
    portion: list[bytes] = []
    size = 0
    for path in paths:
        portion.append(path)
        size += len(path)
        if len(portion) == MAX_PATHS or size > _PATHS_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
