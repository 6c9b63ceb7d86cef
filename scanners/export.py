"""How rows become a file, CSV or Parquet, that is there as a whole or not at all."""

import csv
import errno
import io
import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from datamgr import display
from datamgr.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from scanners.queries import Row

STANDARD_OUTPUT = "-"
BATCH_ROWS = 8192

_CSV_COLUMNS = {"path": ("path", "path_b64")}

Writer = Callable[[BinaryIO, pa.Schema, Iterable[Row]], None]


def write(to: str, schema: pa.Schema, rows: Iterable[Row], *, force: bool = False) -> int:
    """Write rows into a file of the kind that its name says; returns how many there were.

    `-` is CSV on standard output.

    Raises:
        InvalidError: the name ends otherwise, or the file is no regular one.
        ConflictError: the file exists and `force` is off.
        NotFoundError: its directory does not exist.
        UnavailableError: the file cannot be written.
    """
    counted = itertools.count()
    numbered = (row for row, _ in zip(rows, counted, strict=False))
    if to == STANDARD_OUTPUT:
        sys.stdout.flush()
        write_csv(sys.stdout.buffer, schema, numbered)
    else:
        path = Path(to)
        writer = _writer(path)
        _require_free(path, force=force)
        with _replacing(path, force=force) as file:
            writer(file, schema, numbered)
    return next(counted)


def write_csv(file: BinaryIO, schema: pa.Schema, rows: Iterable[Row]) -> None:
    """CSV in UTF-8 with a header; times are ISO 8601.

    Paths are display text, as in JSON; `path_b64`, the column after, is exact where that differs.
    Source: RFC 4180.
    """
    columns = [c for name in schema.names for c in _CSV_COLUMNS.get(name, (name,))]
    header = dict(zip(columns, columns, strict=True))
    for batch in itertools.chain([[header]], _batches(rows)):
        text = io.StringIO()
        # A newline alone as the end would leave carriage returns within names unquoted.
        put = csv.writer(text, lineterminator="\r\n").writerow
        for row in batch:
            encoded = display.encode_row(row)
            put([encoded.get(name) for name in columns])
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))
    file.flush()


def write_parquet(file: BinaryIO, schema: pa.Schema, rows: Iterable[Row]) -> None:
    """Parquet; paths are bytes."""
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while batch := list(itertools.islice(left, BATCH_ROWS)):
        yield batch


def _writer(path: Path) -> Writer:
    writers: dict[str, Writer] = {".csv": write_csv, ".parquet": write_parquet}
    if path.suffix not in writers:
        raise InvalidError(f"{path} is neither .csv nor .parquet; `-` is CSV on standard output")
    return writers[path.suffix]


def _require_free(path: Path, *, force: bool) -> None:
    if path.exists() and not path.is_file():
        raise InvalidError(f"{path} is no regular file; `-` is standard output")
    if not force and os.path.lexists(path):
        raise ConflictError(f"{path} exists; replace it by --force, or choose another name")


@contextmanager
def _replacing(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its name at the end, or goes."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            draft.replace(path)
        else:
            # Unlike a rename, a link takes no other file's place.
            os.link(draft, path)
    except FileExistsError as error:
        raise ConflictError(f"{path} was made meanwhile; replace it by --force") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"the directory {path.parent} does not exist") from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            draft.unlink()
