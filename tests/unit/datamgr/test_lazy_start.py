"""What a command loads before it does anything: seconds that users would wait every time."""

import subprocess
import sys

import pytest

HEAVY = {"pyspark", "h5py", "ibis", "fastapi", "duckdb", "pyarrow", "alembic", "numpy", "pandas"}

LIST_MODULES = """
import sys
from datamgr.cli import main
exit_code = main.run(sys.argv[1:])
print(exit_code, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command, and the packages that it imported."""
    argv = [sys.executable, "-c", LIST_MODULES, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    exit_code, *names = done.stderr.splitlines()[-1].split()
    return int(exit_code), set(names)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["usage", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    exit_code, names = loaded(*arguments)
    assert exit_code == 0
    assert names & HEAVY == set()


def test_reading_the_usage_loads_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the database, which does not answer here, everything is imported already."""
    monkeypatch.setenv("DATAMGR_DATABASE__URL", "postgresql:///x?host=/nowhere")
    exit_code, names = loaded("usage", "--json")
    assert exit_code == 7
    assert "sqlalchemy" in names
    assert names & HEAVY == set()


def test_a_list_of_scans_loads_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAMGR_DATABASE__URL", "postgresql:///x?host=/nowhere")
    exit_code, names = loaded("scan", "list", "--json")
    assert exit_code == 7
    assert names & {"ibis", "duckdb", "pyspark"} == set()
