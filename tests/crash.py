"""Runs `datamgr` and kills it, as by `kill -9`, when it comes to a certain point.

`python -m tests.crash KIND PATTERN ARGUMENT…` where KIND is

- `event`: an audit event of Python; PATTERN is matched against its name and arguments,
- `statement`: an SQL statement that is about to be executed,
- `commit`: the end of a transaction in which such a statement was executed.

Source: Python library reference, "Audit events table"; SQLAlchemy, "Core Events".
"""

import os
import re
import signal
import sys
from typing import Any

import sqlalchemy as sa

from datamgr.cli import main


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kind: str, pattern: str) -> None:
    wanted = re.compile(pattern)
    if kind == "event":
        sys.addaudithook(
            lambda event, args: die() if wanted.search(f"{event} {args}") else None  # type: ignore[func-returns-value]
        )
        return
    met = []

    def on_statement(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if wanted.search(statement):
            met.append(statement)
            if kind == "statement":
                die()

    sa.event.listen(sa.Engine, "before_cursor_execute", on_statement)
    if kind == "commit":
        sa.event.listen(sa.Engine, "commit", lambda _: die() if met else None)


if __name__ == "__main__":
    arm(*sys.argv[1:3])
    sys.exit(main.run(sys.argv[3:]))
