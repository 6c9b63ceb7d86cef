"""`datamgr` as people call it: how a command ended and what it said."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datamgr.cli import main

DATAMGR = (sys.executable, "-m", "datamgr.cli.main")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        assert self.exit_code == 0, self.stderr
        return json.loads(self.stdout)


Command = Callable[..., Done]


def run_command(*arguments: str | bytes | Path, before: tuple[str, ...] = (), **env: str) -> Done:
    """In a process; `before` is what starts it, `env` is added to the environment."""
    done = subprocess.run(
        [*before, *DATAMGR, *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
        env={**os.environ, **env},
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """In this process, which takes a tenth of the time."""
    exit_code = main.run([str(argument) for argument in arguments])
    return Done(exit_code, *capfd.readouterr())
