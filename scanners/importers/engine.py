"""The DuckDB that sorts and joins what a list held, out of core."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from datamgr.errors import UnavailableError
from scanners.importers import raw

# For each thread: enough for runs that merge quickly; what is larger is spilled.
_THREAD_MIB = 128


@contextmanager
def opened(scratch: Path, memory: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in memory that spills into `scratch`.

    Raises:
        UnavailableError: out of memory or scratch space.
    """
    threads = len(os.sched_getaffinity(0))
    connection = duckdb.connect(
        config={
            "threads": threads,
            "memory_limit": memory or f"{max(threads, 2) * _THREAD_MIB}MiB",
            "temp_directory": str(scratch / "spill"),
            # Nothing is fetched at run time.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # The order of the files means nothing; what needs one sorts.
            "preserve_insertion_order": False,
        }
    )
    try:
        yield connection
    except duckdb.OutOfMemoryException as error:
        raise UnavailableError(
            "the import ran out of memory; raise scan.engine_memory or free space for scratch "
            f"files in {scratch}"
        ) from error
    except duckdb.IOException as error:
        raise UnavailableError(f"the import cannot read or write: {error}") from error
    finally:
        connection.close()


def attach(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """Make the datasets of all pieces tables of these names; without rows if they have no files."""
    for dataset, schema in raw.SCHEMAS.items():
        files = [str(path) for path in sorted(directory.glob(f"{dataset}-*.parquet"))]
        if files:
            connection.read_parquet(files).create_view(dataset)
        else:
            connection.from_arrow(schema.empty_table()).create(dataset)
