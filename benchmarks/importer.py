"""A GPFS list becomes a scan in at most two thirds of the time of a parser written line by line.

The peer decodes and writes the same columns by two processes, but with the path of the directory
for its number: it neither numbers nor sorts anything, nor looks for what is listed twice.
"""

import argparse
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import lists, measure
from scanners import parts, record
from scanners.importers import formats, importing, parse, pieces
from scanners.importers.places import Bounds
from scanners.importers.source import ListSource

WORKERS = 2
_INODE = [record.ENTRIES.field(name) for name in record.ENTRIES.names[2:]]
PEER_SCHEMA = pa.schema([("directory", pa.binary()), ("name", pa.binary()), *_INODE])


def run(arguments: argparse.Namespace) -> None:
    """The same list by both; then the memory for it and for one five times as large."""
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        small, large = folder / "small.list", folder / "large.list"
        lists.gpfs(small, arguments.entries)
        lists.gpfs(large, 5 * arguments.entries)
        for entries, file in ((arguments.entries, small), (5 * arguments.entries, large)):
            _compare(file, folder, entries, arguments.rounds)
        peaks = [
            measure.peak_rss_bytes(lambda file=file: _in(folder, import_list, file))
            for file in (small, large)
        ]
    finally:
        shutil.rmtree(folder)
    measure.report(
        f"peak memory of the import of {5 * arguments.entries} rows / of {arguments.entries}",
        ratio=peaks[1] / peaks[0],
        small_mib=peaks[0] // measure.MEBI,
        large_mib=peaks[1] // measure.MEBI,
    )


def _compare(file: Path, folder: Path, entries: int, rounds: int) -> None:
    ours, parsing, peer = measure.alternated(
        rounds,
        lambda: _in(folder, import_list, file),
        lambda: _in(folder, parse_list, file),
        lambda: _in(folder, parse_by_line, file),
    )
    for claim, taken in (
        ("parsed to Parquet", parsing),
        ("parsed, numbered and sorted into the scan store", ours),
    ):
        measure.report(
            f"GPFS list of {entries} rows {claim}: rows/s / those of a parser line by line",
            ratio=peer / taken,
            ours_s=taken,
            peer_s=peer,
            rows_per_s=int(entries / taken),
        )


def _in(folder: Path, work: Callable[[Path, Path], None], file: Path) -> None:
    """Work into a directory that is then removed."""
    with tempfile.TemporaryDirectory(dir=folder) as target:
        work(file, Path(target))


def import_list(file: Path, target: Path) -> None:
    """The whole import, but its publication."""
    for dataset in record.SCHEMAS:
        (target / dataset).mkdir()
    source = ListSource((str(file),), "gpfs-list").checked()
    importing.fill(source, target, workers=WORKERS)


def parse_list(file: Path, target: Path) -> None:
    """Its first phase only: what the peer does."""
    list_format = formats.by_name("gpfs-list")
    with ProcessPoolExecutor(WORKERS) as executor:
        waiting = [
            executor.submit(parse.parse, piece, list_format, Bounds(), target)
            for piece in pieces.cut([str(file)], list_format)
        ]
        assert not any(future.result().bad for future in waiting)


def parse_by_line(file: Path, target: Path) -> None:
    """The peer: half of the file each."""
    end = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(end // 2)
        opened.readline()
        middle = opened.tell()
    with ProcessPoolExecutor(WORKERS) as executor:
        for future in [
            executor.submit(_parse_lines, file, 0, middle, target / "0.parquet"),
            executor.submit(_parse_lines, file, middle, end, target / "1.parquet"),
        ]:
            future.result()


def _parse_lines(file: Path, begin: int, end: int, target: Path) -> None:
    rows: list[tuple[Any, ...]] = []
    modes: dict[str, tuple[int, str]] = {}
    writer = pq.ParquetWriter(
        target,
        PEER_SCHEMA,
        compression="zstd",
        compression_level=1,
        use_dictionary=["directory", "kind", "uid", "gid", "mode", "dev", "nlink"],
        write_statistics=False,
    )
    with file.open("rb") as opened:
        opened.seek(begin)
        for line in opened:
            rows.append(_row(line, modes))
            if len(rows) == parts.ROW_GROUP_ROWS:
                _flush(writer, rows)
            begin += len(line)
            if begin >= end:
                break
    _flush(writer, rows)
    writer.close()


def _row(line: bytes, modes: dict[str, tuple[int, str]]) -> tuple[Any, ...]:
    head, path = line.rstrip(b"\n").split(b" -- ", 1)
    ino, generation, snapshot, show = head.split(b" ", 3)
    fields = unquote_to_bytes(show.strip()).decode().split("|")
    permissions, nlink, uid, gid, size, kib, atime, mtime, ctime = fields
    if permissions not in modes:
        modes[permissions] = _mode(permissions)
    mode, kind = modes[permissions]
    directory, _, name = unquote_to_bytes(path).rpartition(b"/")
    return (
        directory, name, kind, mode, int(ino), int(generation) ^ int(snapshot) << 32, int(nlink),
        int(uid), int(gid), int(size), _seconds(atime), _seconds(mtime), _seconds(ctime),
        int(kib) * 1024,
    )  # fmt: skip


def _mode(permissions: str) -> tuple[int, str]:
    bits = sum(1 << 8 - place for place, letter in enumerate(permissions[1:]) if letter != "-")
    is_directory = permissions[0] == "d"
    return (stat.S_IFDIR if is_directory else stat.S_IFREG) | bits, "d" if is_directory else "f"


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _flush(writer: pq.ParquetWriter, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        columns = zip(zip(*rows, strict=True), PEER_SCHEMA.types, strict=True)
        arrays = [pa.array(values, type_) for values, type_ in columns]
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=PEER_SCHEMA))
        rows.clear()
