"""The model of a tape library: what it says that work takes, and the order that follows."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.config_tier import TapeArchive, TierSettings
from datamgr.db import Database
from tests import archived, mounts
from tests.tiered import files, inner_store, punched, staged, succeeded
from tiering import order, rebuild, states
from tiering.archive.store import ArchiveError, Place
from tiering.archive.tape import CATALOGUE, Drive, Figures, TapeStore
from tiering.models import TierContainer, TierVersion
from tiering.put import put
from tiering.root import ManagedRoot, Report, open_root
from tiering.stage import stage
from tiering.verify import verify

FIGURES = Figures()
WRAP = FIGURES.capacity_bytes // FIGURES.wraps


def test_a_mount_a_locate_and_a_read_take_what_the_figures_say() -> None:
    drive = Drive()
    # Half way along the first wrap: exchange and load, half of a locate, a second of reading.
    drive.transfer("A", WRAP // 2, 400 * 10**6)
    assert drive.spent.total_s == pytest.approx(10 + 17 + 45 + 1, abs=0.01)
    # On from there nothing but reading.
    drive.transfer("A", WRAP // 2 + 400 * 10**6, 400 * 10**6)
    assert (drive.spent.mounts, drive.spent.locates) == (1, 1)
    assert drive.spent.transfer_s == pytest.approx(2)


def test_every_other_wrap_runs_back() -> None:
    """The end of the first wrap and the front of the second are one place of the tape."""
    drive = Drive()
    drive.transfer("A", WRAP, 0)
    at_the_end = drive.spent.locating_s
    assert at_the_end == pytest.approx(90, abs=0.01)
    drive.transfer("A", 2 * WRAP, 0)
    assert drive.spent.locating_s == pytest.approx(at_the_end + 90, abs=0.01)
    drive.transfer("A", 0, 0)
    assert drive.spent.locating_s == pytest.approx(at_the_end + 90, abs=0.01)


def test_a_short_piece_is_read_over_and_another_volume_rewinds_this_one() -> None:
    drive = Drive()
    drive.transfer("A", 0, 10**6)
    drive.transfer("A", 5 * 10**6, 0)
    assert drive.spent.locating_s == pytest.approx(4e6 / WRAP * 90, abs=0.001)
    drive.transfer("A", WRAP, 0)
    before = drive.spent.mounting_s
    drive.transfer("B", 0, 0)
    # Rewound from the far end, unloaded, exchanged, loaded.
    assert drive.spent.mounting_s - before == pytest.approx(110 + 30 + 10 + 17, abs=0.01)


@pytest.fixture
def store(tmp_path: Path) -> TapeStore:
    (tmp_path / "tapes").mkdir()
    return TapeStore(tmp_path / "tapes", Figures(capacity_bytes=1000))


def written(store: TapeStore, key: str, size: int) -> None:
    draft = store.create(key)
    draft.write(bytes(size))
    draft.commit()


def test_objects_follow_one_another_until_a_volume_is_full(store: TapeStore) -> None:
    for key, size in (("a.tar", 400), ("b.tar", 500), ("c.tar", 200)):
        written(store, key, size)
    expected = {
        "a.tar": Place("T00001L9", (0,)),
        "b.tar": Place("T00001L9", (400,)),
        "c.tar": Place("T00002L9", (0,)),
    }
    assert store.places(["a.tar", "b.tar", "c.tar", "none"]) == expected
    assert list(store.keys()) == ["a.tar", "b.tar", "c.tar"]
    again = TapeStore(store.folder, Figures(capacity_bytes=1000))
    assert again.places(expected) == expected
    # What was deleted leaves a gap, and its place is given to nobody.
    again.delete("c.tar")
    written(again, "d.tar", 300)
    assert again.places(["d.tar"]) == {"d.tar": Place("T00002L9", (200,))}


def test_a_line_that_a_crash_cut_off_is_no_line(
    store: TapeStore, caplog: pytest.LogCaptureFixture
) -> None:
    written(store, "a.tar", 400)
    written(store, "b.tar", 100)
    catalogue = store.folder / CATALOGUE
    catalogue.write_bytes(catalogue.read_bytes()[:-10])
    again = TapeStore(store.folder, Figures(capacity_bytes=1000))
    assert set(again.places(["a.tar", "b.tar"])) == {"a.tar"}
    assert "has a line that is none" in caplog.text
    assert b"".join(again.read("b.tar", 0, 1000)) == bytes(100)
    written(again, "c.tar", 1)
    third = TapeStore(store.folder, Figures(capacity_bytes=1000))
    assert set(third.places(["a.tar", "b.tar", "c.tar"])) == {"a.tar", "c.tar"}


def test_a_catalogue_that_cannot_be_written_fails_the_object(store: TapeStore) -> None:
    (store.folder / CATALOGUE).mkdir()
    with pytest.raises(ArchiveError, match="cannot write"):
        written(store, "a.tar", 1)


@pytest.fixture
def root(settings: Settings, database: Database, tmp_path: Path) -> Iterator[ManagedRoot]:
    """Containers of some 130 KB, two of which fill a volume."""
    with mounts.ext4(tmp_path, 128 << 20) as disk:
        (disk / "data").mkdir()
        (tmp_path / "tapes").mkdir()
        tapes = TapeArchive(kind="tape", path=tmp_path / "tapes", capacity_bytes=300_000)
        tier = TierSettings(root=disk / "data", archive=tapes, bundle_files=20)
        with open_root(
            settings.model_copy(update={"tier": {"data": tier}}), database, "data"
        ) as opened:
            yield opened


def drive_of(root: ManagedRoot) -> Drive:
    store = inner_store(root)
    assert isinstance(store, TapeStore)
    return store.drive


def fill(root: ManagedRoot, number: int) -> dict[str, bytes]:
    contents = {f"f{n:03}": os.urandom(5000 + n) for n in range(number)}
    for name, content in contents.items():
        (root.settings.root / name).write_bytes(content)
    succeeded(put(root, [b"."]))
    return contents


@mounts.needs_root
def test_a_hostile_tree_comes_back_from_tapes(root: ManagedRoot) -> None:
    data = root.settings.root
    archived.make(data)
    before = archived.snapshot(data)
    number = len(files(root))
    assert succeeded(put(root, [b"."])).done == number
    assert punched(root).done == number
    assert staged(root).done == number
    assert archived.difference(before, archived.snapshot(data)) == {}


@mounts.needs_root
def test_stage_and_verify_mount_each_volume_once(root: ManagedRoot) -> None:
    contents = fill(root, 200)
    punched(root)
    asked = [name.encode() for name in contents]
    random.Random(3).shuffle(asked)
    with root.database.transaction(read_only=True) as session:
        volumes = set(session.scalars(sa.select(TierContainer.volume)))
        containers = session.scalar(sa.select(sa.func.count()).where(TierContainer.files > 0))
    assert None not in volumes
    assert len(volumes) > 4
    drive = drive_of(root)
    drive.transfer("elsewhere", 0, 0)
    mounts_before, locates_before = drive.spent.mounts, drive.spent.locates
    succeeded(stage(root, asked))
    assert drive.spent.mounts - mounts_before <= len(volumes)
    # One a container at most: within one it reads on.
    assert drive.spent.locates - locates_before <= (containers or 0)
    assert {name: (root.settings.root / name).read_bytes() for name in contents} == contents
    drive.transfer("elsewhere", 0, 0)
    mounts_before = drive.spent.mounts
    report = Report()
    verify(root, asked, report)
    assert succeeded(report).done == 200
    assert drive.spent.mounts - mounts_before <= len(volumes)


@mounts.needs_root
def test_the_order_is_that_of_the_store_and_not_of_names(root: ManagedRoot) -> None:
    """Containers that were moved to other tapes since come in the new order."""
    fill(root, 60)
    store = inner_store(root)
    assert isinstance(store, TapeStore)
    keys = sorted(key for key in store.keys())  # noqa: SIM118
    moved = {key: Place("T00009L9", (1000 - n,)) for n, key in enumerate(keys)}
    store._places.update(moved)
    wanted = [(key, 0, key.encode()) for key in keys]
    # Of two portions: what is on tapes is in one order, and what is on none does not wait for it.
    on_disk = [("b", 0, b"b"), ("a", 7, b"a7"), ("a", 2, b"a2")]
    paths = order.sort(root, iter([wanted[::2] + on_disk, wanted[1::2]]))
    in_order = [key.encode() for key in reversed(keys)]
    assert list(paths) == [b"a2", b"a7", b"b", *in_order]
    with root.database.transaction(read_only=True) as session:
        rows = session.execute(sa.select(TierContainer.key, TierContainer.position))
        assert {key: tuple(position) for key, position in rows} == {
            key: place.position for key, place in moved.items()
        }


def checksums(root: ManagedRoot) -> list[tuple[bytes, int, int | None]]:
    with root.database.transaction(read_only=True) as session:
        found = session.execute(
            sa.select(TierVersion.sha256, TierVersion.adler32, TierVersion.crc32c)
        )
        return sorted((bytes(row.sha256), row.adler32, row.crc32c) for row in found)


@mounts.needs_root
def test_listings_say_volume_and_position_also_after_a_rebuild(root: ManagedRoot) -> None:
    fill(root, 3)

    def place() -> str:
        status = (root.settings.root / "f001").stat()
        seen = states.Seen(
            [status.st_ino], [status.st_size], [status.st_mtime_ns], [status.st_ctime_ns]
        )
        with root.database.transaction(read_only=True) as session:
            return states.states(session, root.filesystem, seen).places[0]

    volume, container = place().split(" ")
    assert volume == "T00001L9:0"
    assert container.split(":")[0] in set(root.store.keys())
    before, sums = place(), checksums(root)
    with root.database.transaction() as session:
        session.execute(sa.text("TRUNCATE tier_container, tier_file CASCADE"))
    report = Report()
    rebuild.rebuild(root, report)
    succeeded(report)
    assert place() == before
    assert checksums(root) == sums


def test_a_kind_that_is_none_is_refused() -> None:
    for place in (
        {"kind": "drum", "path": "/x"},
        {"kind": "tape"},
        {"kind": "tape", "path": "/r/x"},
    ):
        with pytest.raises(ValueError, match=r"kind must be one of|path|inside one another"):
            TierSettings.model_validate({"root": "/r", "archive": place})
