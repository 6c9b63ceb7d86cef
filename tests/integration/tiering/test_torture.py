"""A daemon killed again and again at its work, while files are written, renamed and removed.

No byte is lost, no stub stands for a copy that is not there, and what was left in the middle is
decided at the next start.
"""

import hashlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import DatamgrError
from tests import mounts
from tests.commands import DATAMGR
from tiering.client import Remote
from tiering.faults import VARIABLE
from tiering.inode import STUB_XATTRS
from tiering.models import TierContainer, TierOperation

pytestmark = [mounts.needs_root, pytest.mark.soak]

POINTS = [
    *(f"put.{point}" for point in ("begun", "written", "stored", "verified", "recorded")),
    *(f"punch.{point}" for point in ("intended", "marked", "punching", "punched", "recorded")),
    *(f"stage.{point}" for point in ("filling", "partly", "filled", "unmarked")),
    *(f"stage.{point}" for point in ("restored", "recorded")),
    *(f"repack.{point}" for point in ("written", "verified", "recorded")),
    *(f"expire.{point}" for point in ("forgotten", "removed")),
    *(f"undelete.{point}" for point in ("filled", "linked")),
]
FILES = 60


class Tree:
    """Files of which the test knows the content; they are changed by replacing and by removing."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self._chance = root, chance
        self.known: dict[str, str] = {}
        self.removed: dict[str, str] = {}
        self._number = 0
        for folder in ("a", "b"):
            (root / folder).mkdir()
        for _ in range(FILES):
            self.write()

    def write(self) -> None:
        """A new file: small, large or sparse."""
        self._number += 1
        name = f"{self._chance.choice('ab')}/f{self._number}"
        size = self._chance.choice([0, 1, 700, 5000, 5000, 200_000, 1_500_000])
        content = self._chance.randbytes(size)
        with (self.root / name).open("wb") as file:
            if size > 100_000 and self._chance.random() < 0.5:
                file.seek(1 << 20)
            file.write(content)
        self.known[name] = digest(self.root / name)

    def change(self) -> None:
        """What users do to files, at random."""
        name = self._chance.choice(sorted(self.known))
        path = self.root / name
        what = self._chance.choice(["write", "replace", "rename", "remove", "chmod"])
        if what == "write":
            self.write()
        elif what == "replace":
            new = path.with_name("new")
            new.write_bytes(self._chance.randbytes(3000))
            self.known[name] = digest(new)
            new.rename(path)
        elif what == "rename":
            self._number += 1
            target = f"{self._chance.choice('ab')}/r{self._number}"
            path.rename(self.root / target)
            self.known[target] = self.known.pop(name)
        elif what == "remove" and len(self.known) > FILES // 2:
            path.unlink()
            self.removed[name] = self.known.pop(name)
        elif what == "chmod" and not is_stub(path):
            with suppress(FileNotFoundError):
                path.chmod(self._chance.choice([0o600, 0o640, 0o644]))

    def check(self) -> None:
        """Every file that is no stub is what it was, whenever somebody looks."""
        for name, expected in self.known.items():
            path = self.root / name
            if not is_stub(path):
                assert digest(path) == expected, name


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_stub(path: Path) -> bool:
    return STUB_XATTRS[0].decode() in os.listxattr(path)


@pytest.fixture
def ground(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="datamgr-torture-") as name:
        folder = Path(name)
        with mounts.ext4(folder, 512 << 20) as disk:
            (disk / "data").mkdir()
            (folder / "archive").mkdir()
            config = folder / "datamgr.toml"
            config.write_text(
                f"[tasks]\nlease_s = 2.0\n[tiering]\nsocket = '{folder}/tier.sock'\n"
                f"[tier.data]\nroot = '{disk}/data'\narchive = '{folder}/archive'\n"
                "small_bytes = 100000\nbundle_files = 20\nbundle_bytes = 1000000\n"
                "trash_days = 0\nversions = 1\n"
            )
            monkeypatch.setenv("DATAMGR_CONFIG", str(config))
            yield folder


def choose_compression(ground: Path, chance: random.Random) -> None:
    """An archive may have both sorts of containers."""
    config = ground / "datamgr.toml"
    kept = [line for line in config.read_text().splitlines() if not line.startswith("compress")]
    config.write_text("\n".join([*kept, f"compress = '{chance.choice(['none', 'zstd'])}'\n"]))


def start(ground: Path, kill_at: str = "") -> subprocess.Popen[bytes]:
    with (ground / "daemon.log").open("ab") as log:
        return subprocess.Popen(
            [*DATAMGR, "tier", "daemon"], stderr=log, env={**os.environ, VARIABLE: kill_at}
        )


def ask_for_something(service: Remote, chance: random.Random, tree: Tree) -> None:
    """One request of a random kind about a random part of the tree."""
    action = chance.choice(["put", "put", "punch", "stage", "punch+put", "undelete"])
    how: dict[str, Any] = {"recursive": True}
    if "punch" in action:
        how |= {"unguarded": True}
    if action == "punch+put":
        action, how["punch"] = "put", True
    paths = [chance.choice([".", "a", "b", *chance.sample(sorted(tree.known), 5)])]
    request = {"root": "data", "action": action, **how}
    with suppress(DatamgrError):
        service.ask("submit", request=request, paths=paths)


def leftovers(database: Database, archive: Path) -> set[object]:
    """Objects that no row knows, and unfinished work."""
    with database.transaction(read_only=True) as session:
        keys = set(session.scalars(sa.select(TierContainer.key)))
        unfinished = session.scalars(
            sa.select(TierOperation.id).where(TierOperation.finished_at.is_(None))
        )
        return (set(os.listdir(archive)) - keys) | set(unfinished)


def wait_for(process: subprocess.Popen[bytes], ground: Path) -> None:
    """Until the daemon can be asked, or is killed already at what it does first."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(DatamgrError):
            Remote(ground / "tier.sock").ask("roots")
            return
        time.sleep(0.02)


def wait_idle(service: Remote) -> None:
    deadline = time.monotonic() + 120
    while True:
        with suppress(DatamgrError):
            told = service.ask("list", all=False, limit=100)
            if all(row["finished_at"] is not None for row in told):
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_daemon_killed_at_its_work_loses_nothing(
    ground: Path, database: Database, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    kills = request.config.getoption("kills") or (300 if full else 8)
    seed = request.config.getoption("seed")
    seed = random.randrange(10**6) if seed is None else seed
    print(f"seed {seed}, {kills} kills")
    chance = random.Random(seed)
    tree = Tree(ground / "ext4/data", chance)
    service = Remote(ground / "tier.sock")
    by_point = 0
    for number in range(kills):
        # The first is waited for, so that a slow machine gets to a named point, too.
        at = "put.stored:0" if number == 0 else f"{chance.choice(POINTS)}:{chance.randrange(4)}"
        patience_s = 120 if number == 0 else chance.uniform(1.0, 2.5)
        choose_compression(ground, chance)
        process = start(ground, at)
        try:
            wait_for(process, ground)
            deadline = time.monotonic() + patience_s
            while process.poll() is None and time.monotonic() < deadline:
                if chance.random() < 0.3:
                    ask_for_something(service, chance, tree)
                tree.change()
                time.sleep(chance.uniform(0, 0.05))
            by_point += process.poll() == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGKILL, (ground / "daemon.log").read_text()[-3000:]
        tree.check()
    process = start(ground)
    try:
        wait_idle(service)
        assert leftovers(database, ground / "archive") == set()
        tree.check()
        row = service.ask(
            "submit", request={"root": "data", "action": "stage", "recursive": True}, paths=["."]
        )
        wait_idle(service)
        row = service.ask("show", request=row["id"], failures=100)
        assert [f for f in row["failures"] if "not in the archive" not in f["reason"]] == []
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert [name for name in tree.known if is_stub(tree.root / name)] == []
    tree.check()
    scrubbed = subprocess.run([*DATAMGR, "tier", "scrub"], capture_output=True, check=False)
    assert scrubbed.returncode == 0, scrubbed.stderr
    print(f"{by_point} of {kills} kills at a named point")
    assert by_point > 0
