"""Spark's settings for a roll-up."""

import re
import socket
import sys
from contextlib import suppress
from pathlib import Path

from datamgr import units
from datamgr.config import Settings
from datamgr.errors import UnavailableError

MEBI = 1 << 20
CONNECT_TIMEOUT_S = 10
# Spark writes one long method for a grouping by many columns, which Java would not compile.
JAVA_OPTIONS = "-XX:-DontCompileHugeMethods -XX:+UseParallelGC"
# Where driver and executors are processes of this machine that nobody else may talk to.
_ON_THIS_MACHINE = re.compile(r"local(-cluster)?(\[.*\])?$|spark://(127\.|localhost\b|\[::1\])")


def configuration(settings: Settings, local_dir: Path) -> dict[str, str]:
    """Spark's settings: ours, then those of `scan.spark_conf`, which win.

    Source: Spark configuration, https://spark.apache.org/docs/latest/configuration.html
    """
    master = settings.scan.spark_master
    ours = {
        "spark.app.name": "datamgr",
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.driver.memory": spark_memory(settings.scan.engine_memory or "2GB"),
        "spark.executor.extraJavaOptions": JAVA_OPTIONS,
        "spark.executorEnv.PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "spark.local.dir": str(local_dir),
        "spark.log.level": "ERROR",
        "spark.master": master,
        "spark.pyspark.python": sys.executable,
        # Two attempts of one task at a time would wait for each other in the database.
        "spark.speculation": "false",
        # The project of each directory goes to all executors, unless it is large, rather than all
        # entries to where it is.
        "spark.sql.autoBroadcastJoinThreshold": "64m",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(local_dir / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if _ON_THIS_MACHINE.match(master):
        ours |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    if is_one_process(master):
        # Other accounts of the machine reach the ports; Spark makes a secret for each run.
        ours |= {"spark.authenticate": "true"}
    return ours | settings.scan.spark_conf


def is_one_process(master: str) -> bool:
    """Whether executors are threads of the driver, as with `local[2]`."""
    return re.match(r"local(\[|$)", master) is not None


def require_master(master: str) -> None:
    """Ask a standalone master whether it is there, for Spark itself asks for a minute.

    Raises:
        UnavailableError: none of those named takes a connection.
    """
    if not master.startswith("spark://"):
        return
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        with suppress(OSError, ValueError):
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
            return
    raise UnavailableError(
        f"nobody answers at {master}; start a master there, or name another in scan.spark_master"
    )


def spark_memory(size: str) -> str:
    """A size such as `4GB` or `500MiB` as Spark and Java take it.

    Raises:
        InvalidError: it is no size.
    """
    return f"{max(units.parse_bytes(size) // MEBI, 1)}m"
