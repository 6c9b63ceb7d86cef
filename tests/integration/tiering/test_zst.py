"""Compressed containers: read at any place, and damage of a frame is noticed and got around."""

import os
import random
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from tests import archived, mounts
from tests.tiered import files, punched, staged, succeeded
from tiering import rebuild, reconcile, scrub, upkeep
from tiering.archive.posix import PosixStore
from tiering.archive.reader import Members
from tiering.archive.store import DamagedError
from tiering.archive.writer import new_key
from tiering.archive.zst import FRAME_BYTES, ZstdStore
from tiering.models import TierFile
from tiering.put import put
from tiering.root import ManagedRoot, Report, open_root
from tiering.stage import stage
from tiering.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> ZstdStore:
    (tmp_path / "one").mkdir()
    return ZstdStore(PosixStore(tmp_path / "one"))


def written(store: ZstdStore, content: bytes, pieces: int = 300_000) -> str:
    key = new_key("zstd")
    draft = store.create(key)
    for start in range(0, len(content), pieces):
        draft.write(content[start : start + pieces])
    draft.commit()
    return key


def some(length: int, seed: int = 1) -> bytes:
    """Bytes of which some can be compressed."""
    chance = random.Random(seed)
    return b"".join(
        chance.randbytes(700) + bytes([n % 256]) * 1300 for n in range(length // 2000 + 1)
    )[:length]


def path_of(store: ZstdStore, key: str) -> Path:
    assert isinstance(store.inner, PosixStore)
    return store.inner.folder / key


def test_any_range_is_that_of_the_stream(store: ZstdStore) -> None:
    content = some(5 * FRAME_BYTES + 17)
    key = written(store, content)
    assert path_of(store, key).stat().st_size < len(content) * 0.5
    assert store.size(key) == len(content)
    chance = random.Random(2)
    ranges = [(chance.randrange(len(content)), chance.randrange(3 << 20)) for _ in range(50)]
    edges = [(0, 1), (FRAME_BYTES - 1, 2), (FRAME_BYTES, FRAME_BYTES), (len(content) - 1, 9)]
    for offset, length in (*ranges, *edges, (len(content), 5), (0, 1 << 40), (3, 0)):
        found = b"".join(store.read(key, offset, length))
        assert found == content[offset : offset + length]
    # And zstd itself, which knows nothing of the table behind.
    plain = subprocess.run(["zstd", "-dcq", path_of(store, key)], check=True, capture_output=True)
    assert plain.stdout == content


def test_a_member_needs_no_frame_but_its_own(store: ZstdStore) -> None:
    content = some(4 * FRAME_BYTES)
    key = written(store, content)
    frames = store._frames_of(key)
    path = path_of(store, key)
    damaged = bytearray(path.read_bytes())
    for number in (0, 1, 3):
        damaged[frames.stored[number] : frames.stored[number + 1]] = b"\xaa" * (
            frames.stored[number + 1] - frames.stored[number]
        )
    path.write_bytes(damaged)
    start = 2 * FRAME_BYTES
    assert b"".join(store.read(key, start, FRAME_BYTES)) == content[start : start + FRAME_BYTES]
    with pytest.raises(DamagedError, match="frame 4 of "):
        list(store.read(key, start, FRAME_BYTES + 1))


def test_no_damage_gives_other_bytes(store: ZstdStore) -> None:
    """Whichever bit flips, and wherever it is cut off, what comes is right or an error."""
    content = some(300_000)
    key = written(store, content)
    path = path_of(store, key)
    whole = path.read_bytes()
    chance = random.Random(3)
    noticed = 0
    positions = [*(chance.randrange(len(whole)) for _ in range(200)), *range(-17, 0)]
    for position in positions:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        noticed += is_noticed(store, key, content)
    assert noticed > len(positions) * 0.9
    for length in (0, 1, 8, 9, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert is_noticed(store, key, content)
    path.write_bytes(whole)
    assert not is_noticed(store, key, content)


def is_noticed(store: ZstdStore, key: str, content: bytes) -> bool:
    try:
        found = b"".join(store.read(key, 0, 1 << 40, fresh=True))
    except DamagedError:
        return True
    assert found == content
    return False


def test_an_object_that_was_cut_off_since_is_noticed_by_its_size(store: ZstdStore) -> None:
    key = written(store, some(3 * FRAME_BYTES))
    assert store.size(key) == 3 * FRAME_BYTES
    os.truncate(path_of(store, key), 1000)
    with pytest.raises(DamagedError, match="does not end with a table"):
        store.size(key)


def test_the_container_that_is_damaged_is_the_one_that_is_named(store: ZstdStore) -> None:
    """Also where it could not be opened, after another one was read."""
    good, bad = (written(store, some(FRAME_BYTES, seed)) for seed in (1, 2))
    os.truncate(path_of(store, bad), 1000)
    with Members(store) as members:
        for _ in range(2):
            with pytest.raises(DamagedError, match=f"^the container {bad} is damaged"):
                members.whole(bad, 0, 100)
            assert members.whole(good, 0, 100) == some(FRAME_BYTES, 1)[:100]


@pytest.fixture
def root(settings: Settings, database: Database, tmp_path: Path) -> Iterator[ManagedRoot]:
    """Compressed, with two archives."""
    with mounts.ext4(tmp_path, 128 << 20) as disk:
        for folder in (disk / "data", tmp_path / "first", tmp_path / "other"):
            folder.mkdir()
        tier = TierSettings(
            root=disk / "data",
            archive=tmp_path / "first",
            second=tmp_path / "other",
            small_bytes=1 << 20,
            bundle_files=50,
            compress="zstd",
        )
        with open_root(
            settings.model_copy(update={"tier": {"data": tier}}), database, "data"
        ) as opened:
            yield opened


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 3)
        file.write(b"damage" * 20)


@mounts.needs_root
def test_a_hostile_tree_comes_back_by_this_and_by_tar(root: ManagedRoot, tmp_path: Path) -> None:
    data = root.settings.root
    archived.make(data)
    before = archived.snapshot(data)
    number = len(files(root))
    assert succeeded(put(root, [b"."])).done == number
    first, other = (sorted((tmp_path / name).iterdir()) for name in ("first", "other"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in other]
    assert {path.suffix for path in first} == {".zst"}
    assert punched(root).done == number
    # One of two copies of each is damaged.
    for n, path in enumerate(first):
        damage(path if n % 2 else other[n])
    assert staged(root).done == number
    assert archived.difference(before, archived.snapshot(data)) == {}
    report = Report()
    verify(root, files(root), report)
    assert report.failures
    assert {f.reason.split(" is damaged: ")[0] for f in report.failures} <= {
        f"the container {path.name}" for path in first
    }
    found = list(scrub.scrub(root, scrub.Scrubbed(), repair=True))
    assert len(found) == len(first)
    assert all(one.repaired for one in found)
    assert list(scrub.scrub(root, scrub.Scrubbed())) == []
    (data.parent / "restored").mkdir()
    for path in first:
        subprocess.run(
            ["tar", "--zstd", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner",
             "--warning=none", "-xpf", path, "-C", data.parent / "restored"],
            check=True,
        )  # fmt: skip
    assert archived.difference(before, archived.snapshot(data.parent / "restored")) == {}


@mounts.needs_root
def test_upkeep_and_a_rebuild_know_compressed_containers(root: ManagedRoot, tmp_path: Path) -> None:
    contents = {f"f{n:03}": os.urandom(3000 + n) for n in range(40)}
    for name, content in contents.items():
        (root.settings.root / name).write_bytes(content)
    succeeded(put(root, [b"."]))
    punched(root)
    kept = dict(list(contents.items())[:3])
    for name in contents.keys() - kept.keys():
        (root.settings.root / name).unlink()
    reconcile.reconcile(root, Report())
    with root.database.transaction() as session:
        session.execute(
            sa.update(TierFile)
            .where(TierFile.deleted_at.is_not(None))
            .values(deleted_at=sa.func.now() - timedelta(days=400))
        )
    (before, *_) = sorted(root.store.keys())
    damage(tmp_path / "first" / before)
    report = Report()
    assert upkeep.expired(root, report)["freed"] == 1
    assert succeeded(report).done == 3
    assert before not in set(root.store.keys())
    with root.database.transaction() as session:
        session.execute(sa.text("TRUNCATE tier_container, tier_file CASCADE"))
    report = Report()
    assert rebuild.rebuild(root, report).in_archive == 3
    succeeded(report)
    succeeded(stage(root, files(root)))
    for name, content in kept.items():
        assert (root.settings.root / name).read_bytes() == content
