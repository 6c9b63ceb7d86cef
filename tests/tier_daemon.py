"""The daemon of managed roots, as a process with no more than its systemd unit gives."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import under_unit
from tests.commands import DATAMGR


@contextmanager
def daemon(ground: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that answers on `ground/run/tier.sock`, as it is configured; it has to stop cleanly."""
    place = ground / "run/tier.sock"
    before = under_unit.before_root(under_unit.DEPLOY / "datamgr-tier.service")
    found = {"PYTHONPATH": str(under_unit.DEPLOY.parent)}
    with (ground / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [*before, *DATAMGR, "tier", "daemon"], stderr=log, env=os.environ | found
        )
    try:
        deadline = time.monotonic() + 120
        while not place.exists():
            assert process.poll() is None, (ground / "daemon.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0, (ground / "daemon.log").read_text()
