"""`datamgr scan --engine spark` as people start it: it is killed, or lacks something."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from datamgr.config import Settings
from datamgr.db import Database
from tests import trees
from tests.commands import DATAMGR, Done, run_command
from tests.integration.scanners_spark.conftest import QUICK
from tests.integration.scanners_spark.gates import LOADING, WAITING, count, gate, wait_until

ON_SPARK = ("--engine", "spark", "--spark-master", "local[2]")


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DATAMGR_SCAN__SPARK_CONF", json.dumps(QUICK))
    monkeypatch.setenv("DATAMGR_SCAN__ENGINE_MEMORY", "1GiB")
    return settings


def make_tree(root: Path) -> None:
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
        trees.make_file(root / name / "file", 1000)


def listening(process: psutil.Process) -> list[str]:
    """The addresses on which a process and those below it listen."""
    return [
        connection.laddr.ip
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]


def is_loopback(address: str) -> bool:
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


def current(filesystem_scans: Done) -> list[int]:
    return [row["id"] for row in filesystem_scans.json["rows"] if row["current"]]


def test_a_driver_killed_in_the_load_leaves_the_earlier_scan_current(
    quick: Settings, database: Database, tmp_path: Path
) -> None:
    """The next scan drops the half loaded tables and removes the files."""
    make_tree(tmp_path / "tree")
    scan = ("scan", "run", tmp_path / "tree", "--name", "fs")
    assert run_command(*scan).exit_code == 0
    before = run_command("usage", "--json").json["rows"]
    trees.make_file(tmp_path / "tree/one/more", 5000)
    with gate(database.engine) as open_gate:
        driver = psutil.Popen([*DATAMGR, *scan, *ON_SPARK])
        wait_until(lambda: count(database.engine, WAITING))
        java = [p for p in driver.children(recursive=True) if p.name() == "java"]
        addresses = listening(java[0])
        driver.kill()
        driver.wait()
        psutil.wait_procs(java, timeout=60)
        assert not any(process.is_running() for process in java)
        assert count(database.engine, LOADING) == 2
        open_gate()
        wait_until(lambda: not count(database.engine, WAITING))
    assert addresses
    assert all(map(is_loopback, addresses))
    assert run_command("usage", "--json").json["rows"] == before
    assert current(run_command("scan", "list", "--json")) == [1]
    assert run_command(*scan).exit_code == 0
    assert current(run_command("scan", "list", "--json")) == [3]
    assert count(database.engine, LOADING) == 0
    store = quick.scan_store_dir / "fs"
    assert not list(store.glob("*.partial"))


def test_java_killed_is_one_sentence(quick: Settings, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    argv = [*DATAMGR, "scan", "run", str(tmp_path / "tree"), "--name", "fs", *ON_SPARK]
    with psutil.Popen(argv, stderr=subprocess.PIPE, text=True) as driver:
        wait_until(lambda: [p for p in driver.children() if p.name() == "java"])
        (java,) = driver.children()
        wait_until(lambda: list((quick.scan_store_dir / "fs").glob("*.partial")))
        java.kill()
        said = driver.communicate(timeout=120)[1]
    assert driver.returncode == 7, said
    # On a busy machine it says in between that it walks.
    (sentence,) = (line for line in said.splitlines() if line != "walk ...")
    assert "Spark gave up" in sentence
    scans = run_command("scan", "list", "--json").json["rows"]
    assert [row["state"] for row in scans] == ["failed"]


def test_without_java_the_package_is_named(quick: Settings, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    make_tree(tmp_path / "tree")
    done = run_command(
        "scan", "run", tmp_path / "tree", "--name", "fs", *ON_SPARK,
        PATH=str(tmp_path / "bin"), JAVA_HOME="",
    )  # fmt: skip
    assert done.exit_code == 7
    assert "install a package such as openjdk-17-jre-headless" in done.stderr


def test_a_master_that_is_not_there_is_named(quick: Settings, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    done = run_command(
        "scan", "run", tmp_path / "tree", "--name", "fs", "--engine", "spark",
        "--spark-master", "spark://127.0.0.1:1",
    )  # fmt: skip
    assert done.exit_code == 7
    assert "nobody answers at spark://127.0.0.1:1; start a master there" in done.stderr


def test_without_pyspark_the_extra_is_named() -> None:
    program = "import sys; sys.modules['pyspark'] = None; import scanners.spark_engine"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "the Python module pyspark is missing; install datamgr[spark]" in done.stderr


def test_help_does_not_load_spark() -> None:
    program = (
        "import sys; from datamgr.cli import main; main.run(['scan', 'run', '--help']); "
        "print([n for n in ('pyspark', 'py4j') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_queued_scan_uses_the_worker_s_engine(tmp_path: Path) -> None:
    done = run_command("scan", "run", tmp_path, "--name", "fs", "--no-wait", *ON_SPARK)
    assert done.exit_code == 2
    assert "the worker's settings choose the engine" in done.stderr
