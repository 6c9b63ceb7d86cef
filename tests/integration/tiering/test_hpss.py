"""The archive in HPSS, by a program that does over a directory what `hsi` does, good and bad.

What real ones have printed is in the tests of the parser.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datamgr.config import Settings
from datamgr.config_tier import HpssArchive, TierSettings
from datamgr.db import Database
from datamgr.errors import NotFoundError
from tests import archived, mounts
from tests.tiered import files, inner_store, punched, succeeded
from tiering import order, recovery, scrub
from tiering.archive import hpss
from tiering.archive.hpss import HpssStore
from tiering.archive.store import ArchiveError, Place
from tiering.archive.writer import new_key
from tiering.models import WRITING, TierContainer
from tiering.put import put
from tiering.root import ManagedRoot, open_root
from tiering.stage import stage

PROGRAM = Path(__file__).parents[2] / "fakes/hsi.py"

Fault = Callable[[str], None]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that stands for HPSS; `hsi` is first on the PATH."""
    home = tmp_path / "hpss"
    (home / "files/archive/cosmo").mkdir(parents=True)
    (home / "tape").mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "hsi"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {PROGRAM} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_HPSS", str(home))
    return home


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    return lambda what: monkeypatch.setenv("FAKE_HPSS_FAULT", what)


@pytest.fixture
def place(home: Path, tmp_path: Path) -> HpssArchive:
    (tmp_path / "spool").mkdir()
    return HpssArchive(
        kind="hpss",
        path="/archive/cosmo",
        spool=tmp_path / "spool",
        options=("-A", "keytab", "-k", "/etc/key", "-l", "arc"),
    )


@pytest.fixture
def store(place: HpssArchive) -> HpssStore:
    return hpss.open_store(place)


@pytest.fixture
def root(
    place: HpssArchive, settings: Settings, database: Database, tmp_path: Path
) -> Iterator[ManagedRoot]:
    with mounts.ext4(tmp_path, 128 << 20) as disk:
        (disk / "data").mkdir()
        tier = TierSettings(root=disk / "data", archive=place, small_bytes=1 << 20, bundle_files=20)
        with open_root(
            settings.model_copy(update={"tier": {"data": tier}}), database, "data"
        ) as opened:
            yield opened


def written(store: HpssStore, content: bytes) -> str:
    key = new_key()
    draft = store.create(key)
    try:
        draft.write(content)
        draft.commit()
    finally:
        draft.abandon()
    return key


def content(store: HpssStore, key: str, *, fresh: bool = False) -> bytes:
    return b"".join(store.read(key, 0, 1 << 40, fresh=fresh))


def given(home: Path, command: str) -> int:
    """How often a command was given."""
    return sum(line.startswith(command + " ") for line in (home / "log").read_text().splitlines())


def on_tape(home: Path, key: str, volume: str, position: str) -> None:
    (home / "tape" / key).write_text(f"{position}\t{volume}00")


def test_an_object_is_written_once_read_in_ranges_and_removed(store: HpssStore, home: Path) -> None:
    data = os.urandom(3 << 20)
    key = written(store, data)
    assert store.size(key) == len(data)
    assert list(store.keys()) == [key]
    assert b"".join(store.read(key, 5, 10)) == data[5:15]
    assert b"".join(store.read(key, len(data) - 3, 100)) == data[-3:]
    assert given(home, "get") == 1
    with pytest.raises(ArchiveError, match="already"):
        store.create(key)
    store.delete(key)
    assert list(store.keys()) == []
    store.delete(key)  # none is no error
    with pytest.raises(ArchiveError, match=f"has no object {key}"):
        store.size(key)
    with pytest.raises(ArchiveError, match=f"has no object {key}"):
        content(store, key)
    assert os.listdir(store.spool) == []


def test_what_is_read_fresh_is_fetched_again(store: HpssStore, home: Path) -> None:
    key = written(store, b"first")
    assert content(store, key) == b"first"
    (home / "files/archive/cosmo" / key).write_bytes(b"later")
    assert content(store, key) == b"first"
    assert content(store, key, fresh=True) == b"later"


def test_the_spool_keeps_what_was_read_last(place: HpssArchive, home: Path) -> None:
    store = hpss.open_store(place.model_copy(update={"spool_bytes": 2500}))
    keys = [written(store, bytes(1000)) for _ in range(3)]
    for number, key in enumerate((*keys[:2], keys[0], keys[2])):
        assert content(store, key) == bytes(1000)
        os.utime(store.spool / key, (number, number))
    # The second was not asked for since.
    assert sorted(os.listdir(store.spool)) == sorted([keys[0], keys[2]])
    larger = written(store, bytes(9000))
    assert len(content(store, larger)) == 9000
    assert os.listdir(store.spool) == [larger]


def test_who_reads_goes_on_when_the_spool_needs_the_room(place: HpssArchive) -> None:
    store = hpss.open_store(place.model_copy(update={"spool_bytes": 1}))
    first, second = (os.urandom(3 << 20) for _ in range(2))
    keys = [written(store, first), written(store, second)]
    reading = store.read(keys[0], 0, 1 << 40)
    begun = next(reading)
    assert content(store, keys[1]) == second
    assert begun + b"".join(reading) == first


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ("put=part", "exit code 74: .*on transfer"),
        ("put=short", "with 500 bytes in HPSS instead of 1000"),
        ("put=nothing", "has no object"),
        ("put=77", "exit code 77: .*HPSS_EIO"),
        ("mv=75", "exit code 75"),
        ("mv=nothing", "has no object"),
        ("ls=garbage", "told something that is no list"),
        ("ls=69", "exit code 69"),
        ("ls=nothing", "told nothing of .* that can be understood"),
    ],
)
def test_an_object_that_did_not_arrive_does_not_count(
    store: HpssStore, fault: Fault, faults: str, said: str
) -> None:
    fault(faults)
    with pytest.raises(ArchiveError, match=said):
        written(store, bytes(1000))
    fault("")
    assert list(store.keys()) == []
    assert os.listdir(store.spool) == []


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ("get=part", "exit code 74"),
        ("get=short", "fetched 500 bytes of .* instead of 1000"),
        ("get=nothing", "No such file"),
        ("get=64", "exit code 64"),
        ("ls=garbage", "told something that is no list"),
    ],
)
def test_what_was_not_fetched_as_a_whole_is_not_read(
    store: HpssStore, fault: Fault, faults: str, said: str
) -> None:
    key = written(store, bytes(1000))
    fault(faults)
    with pytest.raises(ArchiveError, match=said):
        content(store, key)
    assert os.listdir(store.spool) == []
    fault("")
    assert content(store, key) == bytes(1000)


def test_a_client_that_hangs_is_given_up(
    place: HpssArchive, store: HpssStore, fault: Fault
) -> None:
    key = written(store, b"x")
    impatient = hpss.open_store(place.model_copy(update={"timeout_s": 0.5}))
    fault("get=hang")
    with pytest.raises(ArchiveError, match="did not end within"):
        content(impatient, key)


def test_what_is_not_there_is_named(place: HpssArchive) -> None:
    with pytest.raises(NotFoundError, match="HPSS has no directory /archive/none"):
        hpss.open_store(place.model_copy(update={"path": "/archive/none"}))
    with pytest.raises(NotFoundError, match=r"spool .* is no directory"):
        hpss.open_store(place.model_copy(update={"spool": place.spool / "none"}))
    with pytest.raises(ArchiveError, match="hsi-of-site is not installed"):
        hpss.open_store(place.model_copy(update={"program": "hsi-of-site"}))


def test_what_a_crash_left_in_the_spool_goes_and_nothing_else(place: HpssArchive) -> None:
    left = [new_key() + end for end in ("", ".part", ".new", ".in")]
    for name in (*left, "precious", "notes.tar"):
        (place.spool / name).write_bytes(b"x")
    hpss.open_store(place)
    assert sorted(os.listdir(place.spool)) == ["notes.tar", "precious"]


def test_places_are_those_of_what_is_on_tape(store: HpssStore, home: Path, fault: Fault) -> None:
    keys = [written(store, b"x") for _ in range(4)]
    on_tape(home, keys[0], "EG0101", "111+1121698225")
    on_tape(home, keys[1], "EG0101", "20+5")
    on_tape(home, keys[2], "AU2972", "3+0")
    found = store.places([*keys, new_key()])
    assert found == {
        keys[0]: Place("EG0101", (111, 1121698225)),
        keys[1]: Place("EG0101", (20, 5)),
        keys[2]: Place("AU2972", (3, 0)),
    }
    assert sorted(keys[:3], key=lambda key: found[key]) == [keys[2], keys[1], keys[0]]
    assert store.places([]) == {}
    fault("in=70")
    assert store.places(keys) == {}


@mounts.needs_root
def test_a_hostile_tree_comes_back_and_each_container_is_fetched_once(
    root: ManagedRoot, home: Path
) -> None:
    data = root.settings.root
    archived.make(data)
    before = archived.snapshot(data)
    number = len(files(root))
    assert succeeded(put(root, [b"."])).done == number
    store = inner_store(root)
    assert isinstance(store, HpssStore)
    # The oldest is last on the tape.
    keys = sorted(store.keys())
    for n, key in enumerate(keys):
        on_tape(home, key, "EG0101", f"{len(keys) - n}+0")
    assert punched(root).done == number
    for path in store.spool.iterdir():
        path.unlink()
    (home / "log").write_text("")
    asked = files(root)
    random.Random(1).shuffle(asked)
    assert succeeded(stage(root, asked)).done == number
    got = [line.split(" : /archive/cosmo/")[1] for line in _commands(home, "get")]
    assert got == sorted(set(got), reverse=True)
    assert archived.difference(before, archived.snapshot(data)) == {}


def _commands(home: Path, name: str) -> list[str]:
    return [line for line in (home / "log").read_text().splitlines() if line.startswith(name + " ")]


@mounts.needs_root
def test_hpss_that_is_away_fails_each_file_and_loses_none(root: ManagedRoot, fault: Fault) -> None:
    path = root.settings.root / "one"
    path.write_bytes(b"precious" * 1000)
    succeeded(put(root, [b"one"]))
    punched(root)
    (root.settings.root / "two").write_bytes(b"two")
    fault("ls=69,in=69,put=69,get=69,rm=69")
    assert "exit code 69" in put(root, [b"two"]).failures[0].reason
    store = inner_store(root)
    assert isinstance(store, HpssStore)
    for left in store.spool.iterdir():
        left.unlink()
    assert "exit code 69" in stage(root, [b"one"]).failures[0].reason
    with root.database.transaction() as session:
        assert session.query(TierContainer).filter_by(state=WRITING).count() == 1
    fault("")
    succeeded(recovery.recover(root))
    assert succeeded(stage(root, [b"one"])).done == 1
    assert path.read_bytes() == b"precious" * 1000
    assert order.refresh(root, list(store.keys())) == {}
    assert list(scrub.scrub(root, scrub.Scrubbed())) == []
    assert succeeded(stage(root, [b"one"])).unchanged == 1
