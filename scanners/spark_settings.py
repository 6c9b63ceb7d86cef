"""Spark's settings for a roll-up."""

import re
import sys
from pathlib import Path

from datamgr import units
from datamgr.config import Settings

MEBI = 1 << 20
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
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(local_dir / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if _ON_THIS_MACHINE.match(master):
        ours |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    if re.match(r"local(\[|$)", master):
        # Other accounts of the machine reach the ports; Spark makes a secret for each run.
        ours |= {"spark.authenticate": "true"}
    return ours | settings.scan.spark_conf


def spark_memory(size: str) -> str:
    """A size such as `4GB` or `500MiB` as Spark and Java take it.

    Raises:
        InvalidError: it is no size.
    """
    return f"{max(units.parse_bytes(size) // MEBI, 1)}m"
