"""Work in a child of this process, which has loaded everything already.

It may be killed; and it may be that of another account, which cannot read the Python of whoever
runs the tests.
"""

import importlib
import os
import pwd
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.commands import Done

# What commands import when they run: afterwards the account may not.
_NEEDED = (
    "difflib", "rich.console", "rich.table", "rich.box", "rich.text", "tiering.ls_cli",
    "tiering.status_cli", "tiering.submit_cli", "tiering.upkeep_cli", "tiering.local",
)  # fmt: skip


def call_as(account: str, folder: Path, *arguments: str | bytes | Path) -> Done:
    """How a command ended; `folder` is for what it says."""
    for name in _NEEDED:
        importlib.import_module(name)
    entry = pwd.getpwnam(account)

    def work() -> int:
        os.setgroups(os.getgrouplist(account, entry.pw_gid))
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        from datamgr.cli import main

        return main.run([a.decode() if isinstance(a, bytes) else str(a) for a in arguments])

    return call(work, folder / account)


def call(work: Callable[[], int], said: Path) -> Done:
    """How it ended; what it says goes to files whose names begin with `said`."""
    out, err = said.with_suffix(".out"), said.with_suffix(".err")
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), number)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            code = work()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001  it is a child of its own
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return Done(os.waitstatus_to_exitcode(status), out.read_text(), err.read_text())
