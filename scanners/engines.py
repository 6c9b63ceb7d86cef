"""Where roll-ups run: an ibis backend, and how a scan's Parquet files become its tables."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import ibis
import pyarrow as pa
from ibis.expr import types as ir

from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import UnavailableError
from scanners import parts, record
from scanners.store import Manifest, ScanStore


class Engine(Protocol):
    """What a roll-up needs of a backend."""

    def dataset(self, scan_dir: Path, name: str) -> ir.Table:
        """A dataset of a scan (see `record.SCHEMAS`); no rows if it has no files."""

    def table(self, rows: pa.Table) -> ir.Table:
        """Rows of the caller's, as a table of this engine."""

    def keep(self, expression: ir.Table) -> ir.Table:
        """The expression's rows computed once, for use in several others."""

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """The rows of an expression, a batch at a time.

        Raises:
            UnavailableError: out of memory or scratch space.
        """

    def load_ahead(
        self,
        database: Database,
        store: ScanStore,
        manifest: Manifest,
        directories: Callable[[], ir.Table],
    ) -> str | None:
        """Where this engine's own processes load, the table into which they put the directories.

        Raises:
            UnavailableError: they gave up.
        """


class DuckDBEngine:
    """DuckDB in this process, spilling to a scratch directory."""

    def __init__(self, scratch_dir: Path, memory: str | None, threads: int) -> None:
        self._connection = ibis.duckdb.connect(
            threads=threads,
            temp_directory=str(scratch_dir),
            # The rows go to PostgreSQL as sets; their order costs memory.
            preserve_insertion_order=False,
            # Nothing is fetched at run time.
            autoinstall_known_extensions=False,
            autoload_known_extensions=False,
            **({"memory_limit": memory} if memory else {}),
        )

    def dataset(self, scan_dir: Path, name: str) -> ir.Table:
        """A dataset of a scan; no rows if it has no files."""
        files = parts.part_files(scan_dir, name)
        if not files:
            # As Parquet files are read: every column may be null.
            nullable = [field.with_nullable(True) for field in record.SCHEMAS[name]]
            return self.table(pa.schema(nullable).empty_table())
        return self._connection.read_parquet(files)

    def table(self, rows: pa.Table) -> ir.Table:
        """Rows of the caller's, as a table of this engine."""
        return ibis.memtable(rows)

    def keep(self, expression: ir.Table) -> ir.Table:
        """The expression's rows computed once, for use in several others."""
        return self._connection.create_table(ibis.util.gen_name("kept"), expression, temp=True)

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """The rows of an expression, a batch at a time."""
        # DuckDB sums integers as HUGEINT, whatever type the expression promises.
        schema = expression.schema().to_pyarrow()
        for batch in self._connection.to_pyarrow_batches(expression, chunk_size=100_000):
            yield batch.cast(schema)

    def load_ahead(self, *_: object) -> None:
        """Nothing: the rows are in this process, which publishes them."""

    def close(self) -> None:
        """Forget everything kept."""
        self._connection.disconnect()


@contextmanager
def opened(settings: Settings, scratch_dir: Path) -> Iterator[Engine]:
    """The configured engine, for one roll-up.

    Raises:
        UnavailableError: out of memory or scratch space, or Spark or Java is missing.
    """
    if settings.scan.engine == "spark":
        from scanners import spark_engine

        with spark_engine.spark_engine(settings) as engine:
            yield engine
    else:
        with duckdb_engine(scratch_dir, settings.scan.engine_memory) as engine:
            yield engine


@contextmanager
def duckdb_engine(
    scratch_dir: Path, memory: str | None = None, threads: int | None = None
) -> Iterator[DuckDBEngine]:
    """A DuckDB for one roll-up.

    Raises:
        UnavailableError: out of memory or scratch space.
    """
    import duckdb

    try:
        engine = DuckDBEngine(scratch_dir, memory, threads or len(os.sched_getaffinity(0)))
        try:
            yield engine
        finally:
            engine.close()
    except duckdb.OutOfMemoryException as error:
        raise UnavailableError(
            "the roll-up ran out of memory; raise scan.engine_memory or free space for "
            f"scratch files in {scratch_dir}"
        ) from error
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        said = str(error).splitlines()[0]
        raise UnavailableError(f"the roll-up cannot read or write: {said}") from error
