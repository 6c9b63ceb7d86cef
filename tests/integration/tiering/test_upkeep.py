"""What the archive keeps for nobody goes, what somebody needs stays, whatever is in between."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.tasks import State, Task
from tests import mounts
from tests.tiered import files, punched, staged, succeeded
from tiering import pins, reconcile, trash, upkeep
from tiering.models import TierFailure, TierFile, TierOperation, TierRequestPath, TierVersion
from tiering.punch import punch
from tiering.put import put
from tiering.root import ManagedRoot, Report
from tiering.stage import stage

pytestmark = mounts.needs_root


def fill(root: ManagedRoot, number: int) -> dict[str, bytes]:
    contents = {f"f{n:03}": os.urandom(3000 + n) for n in range(number)}
    for name, content in contents.items():
        (root.settings.root / name).write_bytes(content)
    succeeded(put(root, [b"."]))
    return contents


def reconciled(root: ManagedRoot) -> reconcile.Outcome:
    report = Report()
    outcome = reconcile.reconcile(root, report)
    succeeded(report)
    return outcome


def forget_the_removed(root: ManagedRoot) -> None:
    """As if all that was removed had been long ago."""
    reconciled(root)
    with root.database.transaction() as session:
        session.execute(
            sa.update(TierFile)
            .where(TierFile.deleted_at.is_not(None))
            .values(deleted_at=sa.func.now() - timedelta(days=400))
        )


def archived_bytes(root: ManagedRoot) -> int:
    return sum(root.store.size(key) for key in root.store.keys())  # noqa: SIM118


def test_what_is_left_of_a_container_is_written_again(root: ManagedRoot) -> None:
    contents = fill(root, 40)
    punched(root)
    before = archived_bytes(root)
    kept = {name: contents[name] for name in list(contents)[:3]}
    for name in contents.keys() - kept.keys():
        (root.settings.root / name).unlink()
    forget_the_removed(root)
    report = Report()
    assert upkeep.expired(root, report)["freed"] == 1
    assert report.done == 3
    assert archived_bytes(root) < before / 4
    staged(root)
    for name, content in kept.items():
        assert (root.settings.root / name).read_bytes() == content
    # And nothing is left to do.
    assert upkeep.expired(root, Report())["freed"] == 0


def test_what_is_needed_mostly_is_left_alone(root: ManagedRoot) -> None:
    contents = fill(root, 10)
    for name in list(contents)[:3]:
        (root.settings.root / name).unlink()
    forget_the_removed(root)
    keys = list(root.store.keys())
    assert upkeep.expired(root, Report())["freed"] == 0
    assert list(root.store.keys()) == keys


def test_a_damaged_container_is_not_rewritten(root: ManagedRoot) -> None:
    contents = fill(root, 20)
    punched(root)
    for name in list(contents)[:15]:
        (root.settings.root / name).unlink()
    forget_the_removed(root)
    (key, *_) = sorted(root.store.keys())
    with (root.settings.archive / key).open("r+b") as file:
        file.seek(-20_000, os.SEEK_END)
        file.write(b"damage")
    report = Report()
    upkeep.expired(root, report)
    (failure,) = report.failures
    assert failure.reason.startswith(f"the container {key} cannot be rewritten: ")
    assert key in set(root.store.keys())


def test_old_versions_go_and_the_newest_stay(root: ManagedRoot) -> None:
    path = root.settings.root / "often"
    for number in range(5):
        path.write_bytes(b"%d" % number * 2000)
        succeeded(put(root, [b"often"]))
    assert len(list(root.store.keys())) >= 5
    trash.expire(root)
    with root.database.transaction(read_only=True) as session:
        assert session.scalar(sa.select(sa.func.count(TierVersion.id))) == 2
    succeeded(punch(root, [b"often"]))
    succeeded(stage(root, [b"often"]))
    assert path.read_bytes() == b"4" * 2000


def ended(session: orm.Session, root: str, days: int | None) -> int:
    """A request that ended so many days ago, or not yet, with a path and a failure; its number."""
    state = State.QUEUED if days is None else State.SUCCEEDED
    task = Task(
        kind="tier", key="k", owner="ada", params={"root": root}, state=state, attempts=1,
        finished_at=None if days is None else sa.func.now() - timedelta(days=days),
    )  # fmt: skip
    session.add(task)
    session.flush()
    session.add(TierRequestPath(task_id=task.id, position=0, path=b"x"))
    session.add(TierFailure(task_id=task.id, path=b"x", reason="no"))
    return task.id


def test_old_requests_and_steps_are_forgotten_and_nothing_else_is(root: ManagedRoot) -> None:
    fill(root, 2)
    punched(root)
    with root.database.transaction() as session:
        old, young, waiting, other = (
            ended(session, name, days)
            for name, days in (("data", 91), ("data", 89), ("data", None), ("another", 91))
        )
        steps = session.scalars(sa.select(TierOperation.id).order_by(TierOperation.id)).all()
        session.execute(
            sa.update(TierOperation)
            .where(TierOperation.id == steps[0])
            .values(finished_at=sa.func.now() - timedelta(days=91))
        )
    upkeep.expired(root, Report())
    with root.database.transaction(read_only=True) as session:
        assert set(session.scalars(sa.select(Task.id))) == {young, waiting, other}
        for table in (TierRequestPath, TierFailure):
            assert set(session.scalars(sa.select(table.task_id))) == {young, waiting, other}
        assert session.scalars(sa.select(TierOperation.id)).all() == list(steps[1:])
    assert old not in {young, waiting, other}
    assert staged(root).done == 2


def test_what_was_removed_today_is_kept(root: ManagedRoot) -> None:
    contents = fill(root, 3)
    (root.settings.root / "f001").unlink()
    assert reconciled(root).removed == 1
    upkeep.expired(root, Report())
    report = Report()
    trash.undelete(root, [b"f001"], report, recursive=False)
    assert succeeded(report).done == 1
    assert (root.settings.root / "f001").read_bytes() == contents["f001"]


def test_undelete_leaves_alone_what_is_there_again(root: ManagedRoot) -> None:
    fill(root, 1)
    path = root.settings.root / "f000"
    path.unlink()
    reconciled(root)
    path.write_bytes(b"new")
    report = Report()
    trash.undelete(root, [b"f000"], report, recursive=False)
    assert [failure.reason for failure in report.failures] == [
        "there is something of this name again"
    ]
    assert path.read_bytes() == b"new"


def test_a_directory_that_was_removed_comes_back_file_by_file(root: ManagedRoot) -> None:
    folder = root.settings.root / "folder"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_bytes(name.encode())
    succeeded(put(root, [b"."]))
    for name in ("one", "two"):
        (folder / name).unlink()
    folder.rmdir()
    reconciled(root)
    report = Report()
    trash.undelete(root, [b"folder"], report, recursive=True)
    assert {f.reason.split(";")[-1] for f in report.failures} == {" make it again first"}
    folder.mkdir()
    report = Report()
    trash.undelete(root, [b"folder"], report, recursive=True)
    assert succeeded(report).done == 2
    assert (folder / "two").read_bytes() == b"two"


def test_a_rename_while_nobody_watched_is_found(root: ManagedRoot) -> None:
    fill(root, 2)
    (root.settings.root / "f000").rename(root.settings.root / "moved")
    outcome = reconciled(root)
    assert (outcome.renamed, outcome.removed) == (1, 0)


def test_what_a_list_does_not_name_is_taken_for_removed_only_if_it_is(root: ManagedRoot) -> None:
    fill(root, 4)
    data = root.settings.root
    (data / "f000").rename(data / "moved")
    (data / "f001").rename(data / "elsewhere")
    (data / "f002").unlink()
    report = Report()
    outcome = reconcile.reconcile(root, report, [b"moved"])
    assert (outcome.seen, outcome.renamed, outcome.removed) == (1, 1, 0)
    outcome = reconcile.reconcile(root, report, [b"moved", b"."])
    assert (outcome.seen, outcome.renamed, outcome.removed) == (1, 0, 1)
    assert succeeded(report).failures == []
    assert (reconciled(root).renamed, reconciled(root).removed) == (1, 0)


def test_a_new_file_of_an_old_inode_is_another(root: ManagedRoot) -> None:
    """The number of a removed file is given again soon on ext4."""
    fill(root, 1)
    path = root.settings.root / "f000"
    path.unlink()
    path.write_bytes(b"another")
    assert reconciled(root).removed == 1
    assert b"f000" in files(root)


def test_a_lock_made_by_others_is_not_taken_away(root: ManagedRoot) -> None:
    fill(root, 1)
    path: Path = root.settings.root / "f000"
    descriptor = os.open(path, os.O_RDONLY)
    from tiering import kernel

    kernel.set_immutable(descriptor, True)
    try:
        report = Report()
        pins.unlock(root, [b"f000"], report)
        assert "see chattr(1)" in report.failures[0].reason
        assert "not by `ghi lock`" in punch(root, [b"f000"]).failures[0].reason
    finally:
        kernel.set_immutable(descriptor, False)
        os.close(descriptor)


@pytest.mark.parametrize("folder", ["f000/x", "missing/x"])
def test_undelete_of_nothing_says_so(root: ManagedRoot, folder: str) -> None:
    fill(root, 1)
    report = Report()
    trash.undelete(root, [folder.encode()], report, recursive=False)
    assert "nothing of yours" in report.failures[0].reason
