"""Put, punch, stage: what a user had is what a user gets, and nothing is freed that is not safe."""

import os
import re
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from datamgr.errors import ConflictError, UnavailableError
from tests import archived, mounts, trees
from tests.tiered import files, punched, staged, succeeded
from tiering import kernel, reconcile, recovery
from tiering.journaled import Journaled
from tiering.models import TierContainer, TierFile
from tiering.punch import punch
from tiering.put import put
from tiering.root import ManagedRoot, Report, open_root
from tiering.stage import stage

pytestmark = mounts.needs_root


def refusal(report: Report) -> str:
    """Why the only file was left as it is."""
    assert report.done == 0
    (failure,) = report.failures
    return failure.reason


def states(root: ManagedRoot) -> dict[str, int]:
    with root.database.transaction(read_only=True) as session:
        counted = sa.select(TierFile.state, sa.func.count()).group_by(TierFile.state)
        return {row[0]: row[1] for row in session.execute(counted)}


def one(root: ManagedRoot, content: bytes = b"precious" * 1000, name: str = "one") -> Path:
    path = root.settings.root / name
    path.write_bytes(content)
    succeeded(put(root, [b"."]))
    return path


@pytest.mark.parametrize("guarded", [False, True])
def test_a_hostile_tree_comes_back(root: ManagedRoot, guarded: bool) -> None:
    data = root.settings.root
    archived.make(data)
    before = archived.snapshot(data)
    number = len(files(root))
    assert succeeded(put(root, [b"."])).done == number
    assert archived.difference(before, archived.snapshot(data)) == {}
    assert states(root) == {"B": number}
    assert punched(root, guarded=guarded).done == number
    assert states(root) == {"H": number}
    for path in files(root):
        status = os.lstat(os.path.join(os.fsencode(data), path))
        # A block of attributes may stay; none of data does.
        assert status.st_blocks <= 8
        if not guarded:
            assert stat.S_IMODE(status.st_mode) == 0
    stubs = archived.snapshot(data)
    for path, state in before.items():
        # Owners, modification, size; guarded also the mode.
        assert stubs[path][0 if guarded else 1 : 5] == state[0 if guarded else 1 : 5]
    assert staged(root).done == number
    assert states(root) == {"B": number}
    assert archived.difference(before, archived.snapshot(data)) == {}
    # And again without any copying: the version in the archive is the one on disk.
    assert put(root, [b"."]).unchanged == len([p for p in before if len(before[p]) == 10])
    assert punched(root).done == number
    assert staged(root).done == number
    assert archived.difference(before, archived.snapshot(data)) == {}


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_tar_alone_restores_all_that_was_put(root: ManagedRoot, disk: Path, program: str) -> None:
    data, target = root.settings.root, disk / "target"
    target.mkdir()
    archived.make(data)
    succeeded(put(root, [b"."]))
    flags = ["--xattrs", "--acls", "--numeric-owner", "-xpf"]
    include = ["--xattrs-include=*"] if program == "tar" else []
    keys = list(root.store.keys())
    assert len(keys) > 3
    for key in keys:
        argv = [program, *include, *flags, root.settings.archive / key, "-C", target]
        subprocess.run(argv, check=True, capture_output=True)
    before, after = archived.snapshot(data), archived.snapshot(target)
    assert before.pop(b".")[:3] == after.pop(b".")[:3]
    assert archived.difference(before, after) == {}


def test_a_renamed_file_is_the_same_and_a_new_one_of_its_name_is_not(root: ManagedRoot) -> None:
    path = one(root)
    punched(root)
    path.rename(path.with_name("moved"))
    path.write_bytes(b"another")
    assert "not in the archive" in refusal(stage(root, [b"one"]))
    assert succeeded(stage(root, [b"moved"])).done_bytes == 8000
    assert path.with_name("moved").read_bytes() == b"precious" * 1000


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_an_open_file_is_not_punched(root: ManagedRoot, mode: str) -> None:
    path = one(root)
    with path.open(mode):
        assert "somebody has it open" in refusal(punch(root, [b"one"]))
    assert path.read_bytes() == b"precious" * 1000
    assert succeeded(punch(root, [b"one"])).done_bytes == 8000


def patient(root: ManagedRoot, punch_retry_s: float) -> ManagedRoot:
    settings = root.settings.model_copy(update={"punch_retry_s": punch_retry_s})
    return replace(root, settings=settings)


def test_a_file_that_is_closed_in_time_is_punched(root: ManagedRoot) -> None:
    path = one(root)
    file = path.open("rb")
    report = Report()
    # Noticed to be open at first, and closed before it is tried again.
    report.watch = lambda: file.close() if report.failures else None
    assert succeeded(punch(patient(root, 600), [b"one"], report)).done_bytes == 8000
    assert path.stat().st_blocks == 0


def test_a_file_that_stays_open_is_said_to_have_been_tried(root: ManagedRoot) -> None:
    path = one(root)
    (root.settings.root / "two").write_bytes(b"two" * 1000)
    succeeded(put(root, [b"two"]))
    with path.open("rb"):
        report = punch(patient(root, 1), [b"one", b"two", b"none"])
    assert {failure.path: failure.reason for failure in report.failures} == {
        b"one": "somebody has it open; try again when it is closed (tried for 1 s)",
        b"none": "No such file or directory",
    }
    assert report.done == 1
    assert path.read_bytes() == b"precious" * 1000


def test_who_waits_for_an_open_file_can_be_stopped(root: ManagedRoot) -> None:
    path = one(root)
    asked = iter(range(3))

    def stop() -> None:
        if next(asked) == 2:
            raise KeyboardInterrupt

    report = Report(watch=stop)
    with path.open("rb"), pytest.raises(KeyboardInterrupt):
        punch(patient(root, 600), [b"one"], report)
    assert path.read_bytes() == b"precious" * 1000


def rewrite_at_the_same_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"worthies" * 1000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"new"),
        lambda path: os.truncate(path, 100),
        lambda path: path.touch(),
        rewrite_at_the_same_time,
    ],
)
def test_a_changed_file_is_not_punched_until_it_is_put_again(
    root: ManagedRoot, change: Callable[[Path], object]
) -> None:
    path = one(root)
    change(path)
    content = path.read_bytes()
    assert "changed since it was archived" in refusal(punch(root, [b"one"]))
    assert path.read_bytes() == content
    assert put(root, [b"one"]).done == 1
    succeeded(punch(root, [b"one"]))
    succeeded(stage(root, [b"one"]))
    assert path.read_bytes() == content


def test_a_chmod_does_not_keep_a_file_from_being_punched(root: ManagedRoot) -> None:
    path = one(root)
    path.chmod(0o640)
    succeeded(punch(root, [b"one"]))
    succeeded(stage(root, [b"one"]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == b"precious" * 1000


def test_what_is_not_in_the_archive_is_not_punched(root: ManagedRoot) -> None:
    (root.settings.root / "new").write_bytes(b"new")
    assert "put it there first" in refusal(punch(root, [b"new"]))


def test_a_stub_is_never_archived(root: ManagedRoot) -> None:
    path = one(root)
    succeeded(punch(root, [b"one"]))
    assert put(root, [b"."]).unchanged == 1
    with root.database.transaction() as session:
        session.execute(sa.text("TRUNCATE tier_file CASCADE"))
    report = put(root, [b"."])
    assert [f.reason for f in report.failures] == [
        "it is a stub of which the database knows nothing"
    ]
    assert path.stat().st_size == 8000


def test_a_forged_mark_does_no_harm(root: ManagedRoot) -> None:
    path = root.settings.root / "forged"
    path.write_bytes(b"mine")
    os.setxattr(path, "user.datamgr.stub", b"{")
    assert succeeded(put(root, [b"."])).done == 1
    os.setxattr(path, "trusted.datamgr.stub", b"{}")
    assert [f.reason for f in put(root, [b"."]).failures] == ["its mark of a stub is malformed"]


def test_links_out_of_the_root_are_not_followed(root: ManagedRoot, disk: Path) -> None:
    secret = trees.make_file(disk / "secret", 100)
    (root.settings.root / "way").symlink_to(disk)
    report = put(root, [b"way/secret", b"../secret"])
    assert report.done == 0
    assert len(report.failures) == 2
    assert refusal(punch(root, [b"way/secret"]))
    assert secret.read_bytes() == b"x" * 100


def test_only_one_process_works_on_a_root(
    root: ManagedRoot, tier_settings: Settings, database: Database
) -> None:
    with (
        pytest.raises(ConflictError, match="another process"),
        open_root(tier_settings, database, "data"),
    ):
        pass


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("size", [9000, 2 << 20])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: flip(path, 5000), "checksum is wrong"),
        (lambda path: os.truncate(path, 6000), "is cut off"),
        (lambda path: path.unlink(), "cannot find .* No such file"),
    ],
)
def test_damage_is_said_and_no_file_half_filled(
    root: ManagedRoot, size: int, damage: Callable[[Path], object], message: str
) -> None:
    path = one(root, os.urandom(size))
    other = one(root, b"good", "other")
    punched(root)
    before = archived.snapshot(root.settings.root)
    damage(sorted(root.settings.archive.iterdir())[0])
    assert re.search(message, refusal(stage(root, [b"one"])))
    assert path.stat().st_blocks <= 8
    assert archived.difference(before, archived.snapshot(root.settings.root)) == {}
    assert states(root) == {"H": 2}
    succeeded(stage(root, [b"other"]))
    assert other.read_bytes() == b"good"


def test_a_full_disk_is_said_and_the_stub_stays(root: ManagedRoot, disk: Path) -> None:
    content = os.urandom(8 << 20)
    path = one(root, content)
    succeeded(punch(root, [b"one"]))
    with (disk / "filler").open("wb") as filler, pytest.raises(OSError, match="No space left"):
        while True:
            filler.write(bytes(1 << 20))
            filler.flush()
    assert "No space left" in refusal(stage(root, [b"one"]))
    assert path.stat().st_blocks <= 8
    (disk / "filler").unlink()
    os.sync()
    assert succeeded(stage(root, [b"one"])).done_bytes == 8 << 20
    assert path.read_bytes() == content


@pytest.mark.parametrize("big", [False, True])
def test_a_full_archive_is_said_for_each_file(root: ManagedRoot, big: bool) -> None:
    data, archive = root.settings.root, root.settings.archive
    for number in range(5):
        trees.make_file(data / f"f{number}", (3 << 20) if big else 900_000)
    with mounts.tmpfs(archive, 1 << 20):
        report = put(root, [b"."])
        assert sorted(f.path for f in report.failures) == [b"f%d" % n for n in range(5)]
        assert {f.reason.rpartition(": ")[2] for f in report.failures} == {
            "No space left on device"
        }
        assert os.listdir(archive) == []
    assert states(root) == {}
    succeeded(recovery.recover(root))
    with root.database.transaction(read_only=True) as session:
        assert session.scalar(sa.select(sa.func.count(TierContainer.id))) == 0
    assert succeeded(put(root, [b"."])).done == 5


def test_a_file_that_grows_while_it_is_read_is_not_archived(
    root: ManagedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = root.settings.root
    (data / "grows").write_bytes(b"a" * (2 << 20))
    (data / "stays").write_bytes(b"b")
    pread = os.pread

    def growing(descriptor: int, length: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/grows"):
            with (data / "grows").open("ab") as file:
                file.write(b"more")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", growing)
    report = put(root, [b"."])
    assert [(f.path, f.reason) for f in report.failures] == [
        (b"grows", "it changed while it was read")
    ]
    assert report.done == 1


def test_identity_tells_a_reused_inode(root: ManagedRoot) -> None:
    path = root.settings.root / "again"
    seen: dict[int, set[int]] = {}
    # xfs frees inodes in the background, now and then.
    for _ in range(5000):
        if any(len(generations) > 1 for generations in seen.values()):
            break
        path.write_bytes(b"x")
        descriptor = os.open(path, os.O_RDONLY)
        generation = kernel.generation(descriptor)
        inode = os.fstat(descriptor).st_ino
        os.close(descriptor)
        assert generation not in seen.setdefault(inode, set())
        seen[inode].add(generation)
        path.unlink()
    assert any(len(generations) > 1 for generations in seen.values())


@pytest.mark.parametrize("heard", [True, False])
def test_a_stage_of_which_the_end_is_unknown_is_whole(
    root: ManagedRoot, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    """The database goes away when it is told that the file is back, and may have heard it."""
    path = one(root)
    punched(root)
    end = Journaled.end

    def answer_lost(self: Journaled, state: str) -> None:
        if heard:
            end(self, state)
        raise UnavailableError("the database does not answer")

    monkeypatch.setattr(Journaled, "end", answer_lost)
    with pytest.raises(UnavailableError):
        stage(root, [b"one"])
    monkeypatch.undo()
    succeeded(recovery.recover(root))
    assert states(root) == {"B": 1}
    assert path.read_bytes() == b"precious" * 1000


def test_a_root_that_is_not_mounted_is_refused_and_nothing_taken_for_removed(
    tier_settings: Settings, database: Database, tier: TierSettings, tmp_path: Path
) -> None:
    with open_root(tier_settings, database, "data") as root:
        one(root)
    (tmp_path / "below").mkdir()
    below = tier_settings.model_copy(
        update={"tier": {"data": tier.model_copy(update={"root": tmp_path / "below"})}}
    )
    with (
        pytest.raises(ConflictError, match="is it mounted"),
        open_root(below, database, "data"),
    ):
        pass
    with open_root(tier_settings, database, "data") as root:
        elsewhere = replace(root, filesystem="another")
        assert reconcile.reconcile(elsewhere, Report()).removed == 0


def test_a_file_system_that_cannot_tell_files_apart_is_refused(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "archive").mkdir()
    with mounts.tmpfs(tmp_path / "memory", 1 << 20) as memory:
        tier = TierSettings(root=memory, archive=tmp_path / "archive")
        there = settings.model_copy(update={"tier": {"data": tier}})
        with (
            pytest.raises(UnavailableError, match="tiering needs ext4, xfs or btrfs"),
            open_root(there, database, "data"),
        ):
            pass


def test_an_archive_that_is_not_mounted_is_refused(
    tier_settings: Settings, database: Database, tier: TierSettings
) -> None:
    with open_root(tier_settings, database, "data") as root:
        one(root)
    with (
        mounts.tmpfs(tier.archive, 1 << 20),
        pytest.raises(ConflictError, match="has none of its containers"),
        open_root(tier_settings, database, "data"),
    ):
        pass


def test_a_root_is_given_up_when_its_lock_was_lost(root: ManagedRoot, database: Database) -> None:
    root.hold()
    with database.transaction() as session:
        held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 1953064306"
        session.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM ({held}) AS holder"))
    with pytest.raises(UnavailableError):
        root.hold()
    # Not even when the database is back: another process may have worked on it meanwhile.
    with pytest.raises(ConflictError, match="was lost; start again"):
        root.hold()
