"""An archive that goes away or cannot be written to, and files that go away, while work is on."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from datamgr.errors import UnavailableError
from tests import mounts
from tests.tiered import files, staged, succeeded
from tiering import order, recovery
from tiering.punch import punch
from tiering.put import put
from tiering.root import ManagedRoot, Report
from tiering.stage import stage

pytestmark = mounts.needs_root

CONTENT = {b"f%d" % number: os.urandom(700_000) for number in range(12)}


def make(root: ManagedRoot) -> Path:
    for name, content in CONTENT.items():
        (root.settings.root / os.fsdecode(name)).write_bytes(content)
    return root.settings.root


def is_stub(path: Path) -> bool:
    return path.stat().st_blocks <= 8


def test_a_read_only_archive_refuses_each_file_and_still_gives_back(root: ManagedRoot) -> None:
    data, archive = make(root), root.settings.archive
    succeeded(put(root, [b"f0"]))
    succeeded(punch(root, [b"f0"]))
    with mounts.bind(archive, archive):
        mounts.run("mount", "-o", "remount,bind,ro", archive)
        report = put(root, files(root))
        # What is archived already need not be written, a stub least of all.
        assert sorted(failure.path for failure in report.failures) == sorted(CONTENT)[1:]
        assert {failure.reason.rpartition(": ")[2] for failure in report.failures} == {
            "Read-only file system"
        }
        assert succeeded(stage(root, [b"f0"])).done == 1
        assert (data / "f0").read_bytes() == CONTENT[b"f0"]
    succeeded(recovery.recover(root))
    assert succeeded(put(root, files(root))).done == len(CONTENT) - 1


def test_an_archive_that_goes_away_in_mid_stage_leaves_files_and_stubs(root: ManagedRoot) -> None:
    data, archive = make(root), root.settings.archive
    succeeded(put(root, files(root)))
    succeeded(punch(root, files(root)))
    away = archive.with_name("away")
    report = Report()

    def go_away() -> None:
        filled = sum(not is_stub(data / os.fsdecode(name)) for name in CONTENT)
        if filled > 1 and not away.exists():
            archive.rename(away)
            archive.mkdir()

    report.watch = go_away
    stage(root, files(root), report)
    assert away.exists()
    assert report.failures
    for failure in report.failures:
        assert ".tar" in failure.reason
        assert is_stub(data / os.fsdecode(failure.path))
    whole = set(CONTENT) - {failure.path for failure in report.failures}
    assert len(whole) == report.done
    assert all((data / os.fsdecode(name)).read_bytes() == CONTENT[name] for name in whole)
    archive.rmdir()
    away.rename(archive)
    assert staged(root).done == len(report.failures)
    assert all((data / os.fsdecode(name)).read_bytes() == CONTENT[name] for name in CONTENT)


def test_an_archive_that_goes_away_between_bundles_names_every_file_that_is_left(
    root: ManagedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bundle is being stored then and another filled."""
    make(root)
    archive = root.settings.archive
    away = archive.with_name("away")

    def go_away(*_: object) -> None:
        if not away.exists():
            archive.rename(away)

    monkeypatch.setattr(order, "refresh", go_away)
    report = put(root, files(root))
    monkeypatch.undo()
    of_one = 3
    assert report.done == of_one
    named = [failure.path for failure in report.failures]
    assert len(named) == len(set(named)) == len(CONTENT) - of_one
    away.rename(archive)
    succeeded(recovery.recover(root))
    assert succeeded(put(root, files(root))).done == len(named)
    succeeded(punch(root, files(root)))
    assert staged(root).done == len(CONTENT)


def test_what_was_recorded_stays_whatever_fails_after_that(
    root: ManagedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(root)
    (data / "large").write_bytes(os.urandom(3 << 20))
    monkeypatch.setattr(order, "refresh", _fail)
    for path in (b"large", b"f0"):
        with suppress(UnavailableError):
            put(root, [path])
    monkeypatch.undo()
    succeeded(recovery.recover(root))
    succeeded(punch(root, [b"large", b"f0"]))
    assert succeeded(stage(root, [b"large", b"f0"])).done == 2
    assert (data / "f0").read_bytes() == CONTENT[b"f0"]


def _fail(*_: object) -> None:
    raise UnavailableError("the database does not answer")


def test_files_that_vanish_while_they_are_put_hold_nobody_up(
    root: ManagedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(root)
    pread = os.pread

    def vanishing(descriptor: int, length: int, offset: int) -> bytes:
        # While the first is read, it and another go; one more gets a new file of its name.
        for name in ("f3", "f7"):
            (data / name).unlink(missing_ok=True)
        if not (data / "moved").exists():
            (data / "f5").rename(data / "moved")
            (data / "f5").write_bytes(b"new")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", vanishing)
    report = put(root, [b"."])
    monkeypatch.undo()
    assert {failure.path for failure in report.failures} <= {b"f3", b"f5", b"f7"}
    assert report.done + len(report.failures) == len(CONTENT)
    succeeded(put(root, files(root)))
    succeeded(punch(root, files(root)))
    assert staged(root).done == len(CONTENT) - 1
    assert (data / "moved").read_bytes() == CONTENT[b"f5"]
    assert (data / "f5").read_bytes() == b"new"
    left = set(CONTENT) - {b"f3", b"f5", b"f7"}
    assert all((data / os.fsdecode(name)).read_bytes() == CONTENT[name] for name in left)
