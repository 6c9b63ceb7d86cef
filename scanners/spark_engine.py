"""Spark as the engine of roll-ups: its session, and ibis expressions run as Spark SQL."""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr import types as ir

from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import UnavailableError
from scanners import parts, record, spark_settings, spark_sql
from scanners.store import Manifest, ScanStore

try:
    from py4j.java_gateway import JavaGateway
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark import SparkConf, SparkContext, StorageLevel
    from pyspark.errors import PySparkException
    from pyspark.errors.exceptions.captured import PythonException
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import DataFrame, SparkSession
except ModuleNotFoundError as missing:
    raise UnavailableError(
        f"the Python module {missing.name} is missing; install datamgr[spark], or set "
        "scan.engine to duckdb"
    ) from missing

BATCH_ROWS = 100_000
SHARES = "spark.sql.shuffle.partitions"
SHARE_BYTES = 16 << 20  # compressed: about a million entries
END_TIMEOUT_S = 30
EXECUTOR_TIMEOUT_S = 300  # batch systems may let it wait
REASON_CHARACTERS = 300  # Spark's first lines may carry a whole query


class SparkEngine:
    """Roll-ups on Spark: tables are views of its session, expressions its SQL."""

    def __init__(self, session: SparkSession) -> None:
        self.session = session
        self._kept: list[DataFrame] = []
        self._views: list[str] = []
        self._shares = session.sparkContext.defaultParallelism

    def dataset(self, scan_dir: Path, name: str) -> ir.Table:
        """A dataset of a scan; no rows if it has no files."""
        files = parts.part_files(scan_dir, name)
        # Scans of earlier versions may lack columns.
        schema = pq.read_schema(files[0]) if files else record.SCHEMAS[name]
        # As Parquet files are read: every column may be null.
        schema = pa.schema([field.with_nullable(True) for field in schema])
        if not files:
            return self.table(schema.empty_table())
        self._share_out(sum(Path(file).stat().st_size for file in files))
        return self._named(self.session.read.parquet(*map(spark_sql.hadoop_path, files)), schema)

    def table(self, rows: pa.Table) -> ir.Table:
        """Rows of the caller's, as a table of this engine."""
        return self._named(self.session.createDataFrame(rows), rows.schema)

    def keep(self, expression: ir.Table) -> ir.Table:
        """The expression's rows computed once, at their first use; again if an executor is lost."""
        frame = self.frame(expression).persist(StorageLevel.MEMORY_AND_DISK)
        self._kept.append(frame)
        return self._named(frame, expression.schema().to_pyarrow())

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """The rows of an expression, a batch at a time.

        All of them come into this process' memory first.
        """
        rows = self.frame(expression).toArrow()
        yield from rows.cast(expression.schema().to_pyarrow()).to_batches(BATCH_ROWS)

    def frame(self, expression: ir.Table) -> DataFrame:
        """The expression, not yet computed."""
        return self.session.sql(spark_sql.compiled(expression))

    def load_ahead(
        self,
        database: Database,
        store: ScanStore,
        manifest: Manifest,
        directories: Callable[[], ir.Table],
    ) -> str:
        """Let the executors load the directories (see `spark_load`); returns the table's name."""
        from scanners import spark_load

        rows = self.frame(directories())
        return spark_load.load_directories(self.session, rows, database, store, manifest)

    def close(self) -> None:
        """Forget everything kept."""
        for frame in self._kept:
            frame.unpersist()
        for view in self._views:
            self.session.catalog.dropTempView(view)

    def _share_out(self, size_bytes: int) -> None:
        """Choose the parallel shares of joins and groupings by the size of the largest dataset.

        Spark's fixed 200 make small roll-ups ten times slower and large ones spill.
        """
        if not self.session.sparkContext.getConf().contains(SHARES):
            self._shares = max(self._shares, size_bytes // SHARE_BYTES)
            self.session.conf.set(SHARES, self._shares)

    def _named(self, frame: DataFrame, schema: pa.Schema) -> ir.Table:
        view = ibis.util.gen_name("datamgr")
        frame.createOrReplaceTempView(view)
        self._views.append(view)
        return ibis.table(ibis.schema(schema), name=view)


@contextmanager
def spark_engine(settings: Settings) -> Iterator[SparkEngine]:
    """A Spark engine for one roll-up.

    Raises:
        UnavailableError: Spark cannot be started, or gave up.
    """
    with running(settings) as session, explained("the roll-up"):
        engine = SparkEngine(session)
        yield engine
        # Not after a failure: then Spark may not answer, and its session ends anyway.
        engine.close()


@contextmanager
def running(settings: Settings) -> Iterator[SparkSession]:
    """The Spark that this process already runs, else one that ends with the block.

    What Spark and Java print goes to `spark.log` in the state directory.

    Raises:
        UnavailableError: Java or the master is missing, or no executor comes.
    """
    if SparkContext._active_spark_context is not None:
        with explained("running"):
            yield SparkSession.builder.getOrCreate()
        return
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise UnavailableError(
            "Spark needs Java 17 or later; install a package such as openjdk-17-jre-headless, "
            "set JAVA_HOME, or set scan.engine to duckdb"
        )
    # Spark looks at pandas where that happens to be installed; nothing here uses it.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    spark_settings.require_master(settings.scan.spark_master)
    # It prints whole Java traces where one sentence is said.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    scratch = settings.state_dir / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="spark-", dir=scratch) as local_dir,
        (settings.state_dir / "spark.log").open("ab") as log,
    ):
        chosen = spark_settings.configuration(settings, Path(local_dir))
        conf = SparkConf(loadDefaults=False).setAll(list(chosen.items()))
        with explained("starting"):
            gateway = launch_gateway(conf, {"stdout": log, "stderr": log})  # type: ignore[no-untyped-call]
        try:
            with _own_interrupts(), _quiet_bridge():
                with explained(f"starting on {settings.scan.spark_master}"):
                    context = SparkContext(conf=conf, gateway=gateway)
                    # Of its own it asks the environment only.
                    context.pythonExec = chosen["spark.pyspark.python"]
                    if not spark_settings.is_one_process(settings.scan.spark_master):
                        _await_executor(context)
                    session = SparkSession(context)
                with explained("running"):
                    yield session
                with explained("ending"):
                    session.stop()
        finally:
            with explained("ending"), _quiet_bridge():
                _end(gateway)


def _await_executor(context: SparkContext) -> None:
    """Wait for the first executor: Spark itself would wait for ever.

    Raises:
        UnavailableError: none came.
    """
    end = time.monotonic() + EXECUTOR_TIMEOUT_S
    # The driver counts as one.
    while context._jsc.sc().getExecutorMemoryStatus().size() < 2:
        if time.monotonic() > end:
            raise UnavailableError(
                f"no executor of {context.master} came within {EXECUTOR_TIMEOUT_S} s; see whether "
                "it has workers with enough free cores and memory"
            )
        time.sleep(0.1)


def _end(gateway: JavaGateway) -> None:
    """End Spark's Java process, which pyspark keeps until this process ends."""
    SparkContext._gateway = SparkContext._jvm = None
    gateway.shutdown()
    gateway.proc.stdin.close()
    try:
        gateway.proc.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        gateway.proc.kill()
        gateway.proc.wait()


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to whom it belonged: a Spark context takes it over and never gives it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet_bridge() -> Iterator[None]:
    """Keep py4j from logging the traces of what becomes one sentence; it uses the root logger."""
    root, others = logging.getLogger(), logging.Filter()
    others.filter = lambda record: "py4j" not in record.pathname  # type: ignore[method-assign]
    root.addFilter(others)
    try:
        yield
    finally:
        root.removeFilter(others)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what Spark and its bridge raise into one sentence about `what`.

    Raises:
        UnavailableError: Spark gave up, or its Java process was killed.
    """
    try:
        yield
    except (Py4JError, PySparkException, ConnectionError) as error:
        lines = [line.strip(": ") for line in str(error).splitlines() if line] or ["no answer"]
        # The bridge begins with the name of the call; a traceback ends with the reason.
        first = {Py4JJavaError: 1, PythonException: -1}.get(type(error), 0)
        reason = lines[min(first, len(lines) - 1)]
        raise UnavailableError(
            f"Spark gave up {what}: {reason[:REASON_CHARACTERS]}; see spark.log in the state "
            "directory"
        ) from error
