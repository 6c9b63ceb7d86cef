"""`ghi ls`: files with their state. The names are read by whoever asks, with his own rights."""

import stat
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import click

from datamgr.cli import options, output
from tiering import client, ls_lines, path_lists, places
from tiering.client import Client
from tiering.listing import Found, Lister
from tiering.ls_lines import NO_FILE, State
from tiering.places import Place

_BATCH = 4000  # files whose states are asked for together, or few more
_ASKED = 4  # batches that wait for their states


@click.command()
@click.argument("paths", nargs=-1, type=options.PATH, metavar="[PATH]...")
@click.option("-l", "long", is_flag=True, help="Mode, owner, group, size, time, archive position.")
@click.option("-R", "recursive", is_flag=True, help="Also everything below directories.")
@click.option("-e", "everything", is_flag=True, help="Also names that begin with a dot.")
@click.option("-u", "unsorted", is_flag=True, help="Do not sort; directories are faster listed so.")
@path_lists.files_from("Also the paths in this file, one a line; `-` is standard input.")
@path_lists.null
@options.as_json
@options.pass_config_path
@click.pass_context
def ls(  # noqa: PLR0913
    ctx: click.Context,
    config_path: str | None,
    *,
    paths: Sequence[bytes],
    long: bool,
    recursive: bool,
    everything: bool,
    unsorted: bool,
    files_from: Any,
    null: bool,
    as_json: bool,
) -> None:
    """List files with their state.

    Column 1: G, on disk only; B, on disk and in the archive; H, in the archive only; `-`, no file.
    Columns 2 to 5: `c` changed since it was put, `p` pinned, `l` locked, `~` being worked on.
    With -l, what follows the name is where the archive has it: container and offset, before them
    volume and position if it is on tape.

    \b
    Examples:
      ghi ls -l run42
      ghi ls -lR run42 | grep ^H
      find run42 -name '*.h5' -print0 | ghi ls -0 -f -
    """
    given = [*paths, *path_lists.listed(files_from, null=null)]
    lister = Lister(everything=everything, is_sorted=not unsorted, recursive=recursive)
    with client.connect(config_path) as service:
        roots = [Place(r["name"], r["path"].encode("latin-1")) for r in service.ask("roots")]
        found = _with_states(service, roots, lister, given or [b"."])
        if as_json:
            rows = (row for entries, states in found for row in ls_lines.rows(entries, states))
            output.emit_stream("ghi.ls", rows)
        else:
            lines = ls_lines.long if long else ls_lines.short
            for entries, states in found:
                sys.stdout.write(lines(entries, states))
            sys.stdout.flush()
    for line in lister.errors:
        click.echo(f"ghi: {line}", err=True)
    if lister.errors:
        ctx.exit(3)


_Batch = tuple[Sequence[Found], Sequence[State]]


def _with_states(
    service: Client, roots: Sequence[Place], lister: Lister, paths: Sequence[bytes]
) -> Iterator[_Batch]:
    """What is found with what the daemon knows of it; looked up for many at a time."""
    # The daemon looks some up while this process reads the next and shows those before.
    with ThreadPoolExecutor(1) as asking:
        asked: deque[Future[_Batch]] = deque()
        for place, found in _batches(roots, lister, paths):
            asked.append(asking.submit(_look_up, service, place, found))
            while asked and (len(asked) > _ASKED or asked[0].done()):
                yield asked.popleft().result()
        for future in asked:
            yield future.result()


def _batches(
    roots: Sequence[Place], lister: Lister, paths: Sequence[bytes]
) -> Iterator[tuple[Place, Sequence[Found]]]:
    for place, given in places.sort_by_root(roots, paths).items():
        batch: list[Found] = []
        for path, _ in given:
            for found in lister.found(path):
                for first in range(0, len(found), _BATCH):
                    batch += found[first : first + _BATCH]
                    if len(batch) >= _BATCH:
                        yield place, batch
                        batch = []
        yield place, batch


def _look_up(service: Client, place: Place, found: Sequence[Found]) -> _Batch:
    files = [status for _, status in found if stat.S_ISREG(status.st_mode)]
    if not files:
        return found, [NO_FILE] * len(found)
    told = service.ask(
        "states",
        root=place.name,
        inodes=[status.st_ino for status in files],
        sizes=[status.st_size for status in files],
        mtimes_ns=[status.st_mtime_ns for status in files],
        ctimes_ns=[status.st_ctime_ns for status in files],
    )
    known = zip(told["marks"], told["places"], strict=True)
    if len(files) == len(found):
        return found, list(known)
    return found, [next(known) if stat.S_ISREG(s.st_mode) else NO_FILE for _, s in found]
