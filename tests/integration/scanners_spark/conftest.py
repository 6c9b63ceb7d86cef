"""One Spark of two executor processes, and one database, for all tests of this directory."""

from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from pyspark.sql import SparkSession

from datamgr.config import ScanSettings, Settings
from datamgr.db import Database, make_engine
from scanners import spark_engine
from tests import databases

# Two workers of one core; a master, workers and executors as in a standalone cluster.
MASTER = "local-cluster[2,1,1024]"
# Java compiles less thoroughly, which pays for less than some minutes of work.
QUICK = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
LOADED_TABLES = ("scan_project", "project_history", "usage", "directory", "top_file", "age_bin",
                 "access_rule")  # fmt: skip

Tables = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="package")
def spark_settings(
    server: sa.Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings by which Spark is the engine, with a database of this directory's own."""
    folder = tmp_path_factory.mktemp("spark")
    with databases.fresh(server) as url:
        scan = ScanSettings(
            engine="spark", spark_master=MASTER, engine_memory="1GiB", spark_conf=QUICK
        )
        yield databases.settings(url, folder / "state").model_copy(update={"scan": scan})


@pytest.fixture(scope="package")
def spark(spark_settings: Settings) -> Iterator[SparkSession]:
    """The session that all of datamgr in this process uses meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")  # workers, too, listen on loopback only
        with spark_engine.running(spark_settings) as session:
            yield session


@pytest.fixture(scope="package")
def spark_database(spark_settings: Settings) -> Iterator[Database]:
    engine = make_engine(sa.make_url(spark_settings.database.url), 10)
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def tables(spark_database: Database) -> Callable[[int], Tables]:
    """Every row and column that the publication of a scan wrote."""

    def read(scan_id: int) -> Tables:
        with spark_database.transaction(read_only=True) as session:
            return {
                table: sorted(
                    (
                        tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
                        for row in session.execute(
                            sa.text(f"SELECT * FROM {table} WHERE scan_id = :id"), {"id": scan_id}
                        )
                    ),
                    key=repr,
                )
                for table in LOADED_TABLES
            }

    return read


@pytest.fixture
def executors(spark: SparkSession) -> Callable[[], list[psutil.Process]]:
    """The Java processes of the executors that run now."""

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if any("CoarseGrainedExecutorBackend" in word for word in process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    return find
