"""A DuckDB for work that may not fit into memory: sorting and grouping streams of rows."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from datamgr.config import Settings
from datamgr.errors import UnavailableError

if TYPE_CHECKING:
    import duckdb

DEFAULT_MEMORY = "512MB"
BATCH_ROWS = 8192


@contextmanager
def opened(settings: Settings) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A DuckDB whose tables are in a file that goes with it, below the state directory.

    Who may not write there uses the directory for temporary files ($TMPDIR).

    Raises:
        UnavailableError: out of memory or scratch space.
    """
    import duckdb

    own = settings.state_dir / "scratch"
    if os.access(settings.state_dir, os.W_OK):
        own.mkdir(exist_ok=True)
    usable = os.access(own, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="datamgr-", dir=own if usable else None) as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": len(os.sched_getaffinity(0)),
            "memory_limit": settings.scan.engine_memory or DEFAULT_MEMORY,
            "temp_directory": f"{folder}/spill",
            # Nothing is fetched at run time.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # Where order counts, it is asked for.
            "preserve_insertion_order": False,
        }
        connection = duckdb.connect(str(Path(folder) / "rows.duckdb"), config=config)
        try:
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise UnavailableError(
                "out of memory; raise scan.engine_memory, ask for less, or free space for "
                f"scratch files in {Path(folder).parent}"
            ) from error
        except duckdb.IOException as error:
            said = str(error).splitlines()[0]
            raise UnavailableError(f"cannot write scratch files in {folder}: {said}") from error
        finally:
            connection.close()


class Stream:
    """Batches as DuckDB reads them; it would hide why they end early, so `check` says it."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._failure: BaseException | None = None

    def reader(self, schema: pa.Schema) -> pa.RecordBatchReader:
        """The rows, to be read once."""
        return pa.RecordBatchReader.from_batches(schema, self._guarded())

    def _guarded(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches
        except BaseException as error:
            self._failure = error
            raise

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Let what the batches raised pass through a query that reads them."""
        try:
            yield
        except Exception:
            if self._failure is not None:
                raise self._failure from None
            raise
