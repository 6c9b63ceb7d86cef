"""Containers of several objects: read anywhere, complete or not there, and restored by tar."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from tests import archived, mounts
from tests.tiered import files, punched, staged, succeeded
from tiering import rebuild, scrub, upkeep
from tiering.archive import reader
from tiering.archive.entry import Entry
from tiering.archive.posix import PosixStore
from tiering.archive.segments import UNIT_BYTES, SegmentedStore
from tiering.archive.store import AbsentError, ArchiveError, DamagedError
from tiering.archive.writer import ContainerWriter, new_key
from tiering.put import put
from tiering.root import ManagedRoot, Report, open_root
from tiering.verify import verify

SIZE = 2 * UNIT_BYTES  # of a segment


@pytest.fixture
def store(tmp_path: Path) -> SegmentedStore:
    (tmp_path / "one").mkdir()
    return SegmentedStore(PosixStore(tmp_path / "one"), SIZE)


def written(
    store: SegmentedStore, content: bytes, key: str = "a.tar", pieces: int = 300_000
) -> str:
    draft = store.create(key)
    for start in range(0, len(content), pieces):
        draft.write(content[start : start + pieces])
    draft.commit()
    return key


def names(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "one"))


@pytest.mark.parametrize(
    ("length", "objects"),
    [(0, 1), (5, 1), (UNIT_BYTES, 1), (SIZE - 1, 1), (SIZE, 1), (SIZE + 1, 2), (2 * SIZE, 2),
     (3 * SIZE + 17, 4)],
)  # fmt: skip
def test_any_range_is_that_of_the_whole(
    store: SegmentedStore, tmp_path: Path, length: int, objects: int
) -> None:
    content = random.Random(length).randbytes(length)
    key = written(store, content)
    assert names(tmp_path) == [key, *(f"{key}.{n:04}" for n in range(1, objects))]
    assert list(store.keys()) == [key]
    assert store.size(key) == length
    whole = subprocess.run(
        f"cat {tmp_path}/one/{key}*", shell=True, check=True, capture_output=True
    )
    assert whole.stdout == content
    chance = random.Random(2)
    ranges = [(chance.randrange(length + 1), chance.randrange(3 * SIZE)) for _ in range(30)]
    edges = [(SIZE - 1, 2), (SIZE, SIZE), (SIZE, 1), (length, 5), (0, 1 << 40), (3, 0)]
    # Another process, with other settings, knows nothing but the objects.
    for reading in (store, SegmentedStore(store.inner, 64 << 30)):
        for offset, wanted in (*ranges, *edges):
            for fresh in (False, True):
                found = b"".join(reading.read(key, offset, wanted, fresh=fresh))
                assert found == content[offset : offset + wanted]
    store.delete(key)
    assert names(tmp_path) == []
    with pytest.raises(AbsentError):
        store.size(key)


def test_what_is_read_back_meanwhile_is_the_whole(store: SegmentedStore) -> None:
    content = random.Random(5).randbytes(3 * SIZE + 12345)
    draft = store.create("a.tar")
    (back,) = draft.read_back()
    assert back is not None
    draft.write(content)
    draft.settle()
    # Before it exists.
    assert list(store.keys()) == []
    assert b"".join(back) == content
    draft.commit()
    assert list(store.keys()) == ["a.tar"]


def test_a_draft_that_is_given_up_leaves_nothing(store: SegmentedStore, tmp_path: Path) -> None:
    draft = store.create("a.tar")
    (back,) = draft.read_back()
    assert back is not None
    draft.write(bytes(2 * SIZE + 1))
    assert names(tmp_path) == ["a.tar.0001", "a.tar.0002.tmp", "a.tar.tmp"]
    draft.abandon()
    assert len(b"".join(back)) <= 2 * SIZE + 1  # it ends
    assert names(tmp_path) == []


def test_what_a_crash_left_is_not_there_and_is_removed(
    store: SegmentedStore, tmp_path: Path
) -> None:
    store.create("a.tar").write(bytes(2 * SIZE + 1))
    assert list(store.keys()) == []
    with pytest.raises(AbsentError):
        store.size("a.tar")
    store.delete("a.tar")
    assert names(tmp_path) == []


def test_segments_of_something_else_are_not_taken_for_its_own(
    store: SegmentedStore, tmp_path: Path
) -> None:
    """Where a segment was lost, those behind it are not found by a deletion."""
    written(store, bytes(5 * SIZE))
    (tmp_path / "one/a.tar.0002").unlink()
    store.delete("a.tar")
    assert names(tmp_path) == ["a.tar.0003", "a.tar.0004"]
    content = random.Random(7).randbytes(3 * SIZE)
    written(store, content)
    assert store.size("a.tar") == len(content)
    assert b"".join(store.read("a.tar", 0, 1 << 40)) == content


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("length", [None, 0, UNIT_BYTES, UNIT_BYTES + 5, SIZE + 5])
def test_no_lost_or_cut_off_segment_gives_other_bytes(
    store: SegmentedStore, tmp_path: Path, number: int, length: int | None
) -> None:
    content = random.Random(9).randbytes(4 * SIZE - 100)
    written(store, content)
    path = tmp_path / "one" / ("a.tar" + (f".{number:04}" if number else ""))
    if length is None:
        path.unlink()
    else:
        os.truncate(path, length)
    again = SegmentedStore(store.inner, SIZE)
    if number == 0 and length is None:
        with pytest.raises(AbsentError):
            again.size("a.tar")
        return
    assert again.size("a.tar") != len(content)
    for reading in (store, again):
        found = b"".join(reading.read("a.tar", 0, 1 << 40))
        assert len(found) < len(content) or length == SIZE + 5
        if length != SIZE + 5 and not (number == 0 and length == UNIT_BYTES):
            assert content.startswith(found)


@pytest.fixture(params=["none", "zstd"])
def root(
    settings: Settings, database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ManagedRoot]:
    """Two archives, in segments of 1 MiB."""
    with mounts.ext4(tmp_path, 128 << 20) as disk:
        for folder in (disk / "data", tmp_path / "first", tmp_path / "other"):
            folder.mkdir()
        tier = TierSettings(
            root=disk / "data",
            archive=tmp_path / "first",
            second=tmp_path / "other",
            small_bytes=1 << 20,
            bundle_bytes=3 << 20,
            segment_bytes=1 << 20,
            compress=request.param,
        )
        with open_root(
            settings.model_copy(update={"tier": {"data": tier}}), database, "data"
        ) as opened:
            yield opened


def large(root: ManagedRoot) -> dict[str, bytes]:
    contents = {f"large{n}": os.urandom((3 << 20) + n * 70_001) for n in range(3)}
    for name, content in contents.items():
        (root.settings.root / name).write_bytes(content)
    return contents


def segments(root: ManagedRoot, folder: Path) -> list[Path]:
    """The third objects of all containers that have as many."""
    return sorted(folder.glob("*.0002"))


@mounts.needs_root
@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_a_hostile_tree_comes_back_by_this_and_by_tar(
    root: ManagedRoot, tmp_path: Path, program: str
) -> None:
    data = root.settings.root
    archived.make(data)
    large(root)
    before = archived.snapshot(data)
    number = len(files(root))
    assert succeeded(put(root, [b"."])).done == number
    first, other = (sorted((tmp_path / name).iterdir()) for name in ("first", "other"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in other]
    assert len(segments(root, tmp_path / "first")) >= 3
    assert max(path.stat().st_size for path in first) == 1 << 20
    assert punched(root).done == number
    assert staged(root).done == number
    assert archived.difference(before, archived.snapshot(data)) == {}
    # As docs/archive-format.md says.
    restored = data.parent / "restored"
    restored.mkdir()
    include = "--xattrs-include='*'" if program == "tar" else ""
    loop = f"""
        cd {restored}
        for container in $(ls {tmp_path}/first | grep -E '\\.tar(\\.zst)?$'); do
            cat "{tmp_path}/first/$container"* | zstd -dcfq |
                {program} --xattrs {include} --acls --numeric-owner -xpf - || exit 1
        done
    """
    subprocess.run(["bash", "-o", "pipefail", "-c", loop], check=True, capture_output=True)
    after = archived.snapshot(restored)
    assert before.pop(b".")[:3] == after.pop(b".")[:3]
    assert archived.difference(before, after) == {}


@mounts.needs_root
@pytest.mark.parametrize("fault", ["missing", "cut off", "changed"])
def test_a_damaged_segment_is_found_got_around_and_repaired(
    root: ManagedRoot, tmp_path: Path, fault: str
) -> None:
    contents = large(root)
    succeeded(put(root, [b"."]))
    whole = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    punched(root)
    damaged = segments(root, tmp_path / "first")
    assert len(damaged) == 3
    for path in damaged:
        if fault == "missing":
            path.unlink()
        elif fault == "cut off":
            os.truncate(path, 1000)
        else:
            with path.open("r+b") as file:
                file.seek(500_000 if path.stat().st_size > 500_000 else 100)
                file.write(b"damage")
    report = Report()
    verify(root, files(root), report)
    assert len(report.failures) == 3
    assert staged(root).done == 3
    for name, content in contents.items():
        assert (root.settings.root / name).read_bytes() == content
    found = list(scrub.scrub(root, scrub.Scrubbed(), repair=True))
    assert [one.repaired for one in found] == [True] * 3
    assert list(scrub.scrub(root, scrub.Scrubbed())) == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()} == whole


@mounts.needs_root
def test_upkeep_and_a_rebuild_know_segments(root: ManagedRoot, tmp_path: Path) -> None:
    kept = large(root)
    succeeded(put(root, [b"."]))
    # A bundle of several segments, little of which is needed later.
    for n in range(4):
        (root.settings.root / f"small{n}").write_bytes(os.urandom(700_000))
    succeeded(put(root, [b"."]))
    punched(root)
    kept["small3"] = b""
    for n in range(3):
        (root.settings.root / f"small{n}").unlink()
    with root.database.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE tier_file SET deleted_at = now() - interval '400 days' "
                "WHERE convert_from(path, 'UTF8') IN ('small0', 'small1', 'small2')"
            )
        )
    report = Report()
    assert upkeep.expired(root, report)["freed"] >= 1
    assert succeeded(report).done == 1
    with root.database.transaction() as session:
        keys = set(session.scalars(sa.text("SELECT key FROM tier_container")))
    assert {name.rpartition(".0")[0] or name for name in os.listdir(tmp_path / "other")} == keys
    with root.database.transaction() as session:
        session.execute(sa.text("TRUNCATE tier_container, tier_file CASCADE"))
    report = Report()
    assert rebuild.rebuild(root, report).in_archive == len(kept)
    succeeded(report)
    assert staged(root).done == len(kept)
    for name, content in kept.items():
        assert content == b"" or (root.settings.root / name).read_bytes() == content


def test_an_archive_that_fills_up_in_a_later_segment_keeps_nothing(tmp_path: Path) -> None:
    with mounts.tmpfs(tmp_path / "full", 5 << 20):
        store = SegmentedStore(PosixStore(tmp_path / "full"), SIZE)
        draft = store.create("a.tar")
        with pytest.raises(ArchiveError, match="No space left"):
            draft.write(bytes(8 << 20))
        draft.abandon()
        assert os.listdir(tmp_path / "full") == []


def test_a_container_without_its_last_segment_is_named_as_damaged(
    store: SegmentedStore, tmp_path: Path
) -> None:

    with ContainerWriter(store, new_key(), of_many=False, follow=True) as container:
        container.add(Entry(b"f", "f", size_bytes=3 * SIZE), iter([bytes(3 * SIZE)]))
        container.finish()
        container.verify()
    (tmp_path / "one" / f"{container.key}.0003").unlink()
    with pytest.raises(DamagedError, match="is damaged"):
        reader.compare(store, container.key, container.placed)
