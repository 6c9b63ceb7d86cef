"""`ghi` through the daemon: what each account may do, see and learn; bad input; garbage."""

import _strptime  # noqa: F401  an account of a test cannot import it
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from datamgr import catalog, config, display, identity, tasks
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ConflictError, ForbiddenError
from tests import forked, mounts
from tests.accounts import People
from tests.commands import DATAMGR, Done
from tests.integration.pages.conftest import STAFF, serving
from tests.tier_daemon import daemon
from tests.waits import eventually
from tiering import client, requests
from tiering.client import Remote
from tiering.service import Service

pytestmark = mounts.needs_root

Ghi = Callable[..., Done]


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder that every account can enter."""
    with tempfile.TemporaryDirectory(prefix="datamgr-ghi-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def data(
    ground: Path, settings: Settings, people: People, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A managed root: of the PI's project `lab`, and of everybody's `scratch`."""
    with mounts.ext4(ground, 256 << 20) as disk:
        root = disk / "data"
        root.mkdir(mode=0o755)
        (ground / "archive").mkdir(mode=0o700)
        (ground / "out").mkdir(mode=0o755)
        for name, owner in (("lab", people.pi), ("scratch", people.stranger)):
            (root / name).mkdir()
            (root / name).chmod(0o1777)
            os.chown(root / name, people.uid(owner), people.gid)
        config = ground / "datamgr.toml"
        config.write_text(
            f"[tiering]\nsocket = '{ground}/run/tier.sock'\n[tier.data]\nroot = '{root}'\n"
            f"archive = '{ground}/archive'\ntrash_days = 1\n"
        )
        monkeypatch.setenv("DATAMGR_CONFIG", str(config))
        yield root


@pytest.fixture
def ghi(ground: Path, data: Path, people: People) -> Iterator[Ghi]:
    """`ghi` as an account, given by its letter in `People`."""

    def call(account: str, *arguments: str | Path) -> Done:
        return forked.call_as(account, ground / "out", "ghi", *arguments)

    with daemon(ground):
        yield call


def make(path: Path, owner: int, content: bytes = b"content" * 500, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    os.chown(path, owner, -1)
    path.chmod(mode)
    return path


def letters(done: Done) -> dict[str, str]:
    assert done.exit_code == 0, done.stderr
    return {Path(row["path"]).name: row["state"] for row in json.loads(done.stdout)["rows"]}


def test_a_user_archives_frees_and_gets_back(ghi: Ghi, data: Path, people: People) -> None:
    mine = make(data / "lab/mine", people.uid(people.member))
    assert letters(ghi(people.member, "ls", "--json", mine)) == {"mine": "G"}
    assert ghi(people.member, "put", mine).exit_code == 0
    assert letters(ghi(people.member, "ls", "--json", mine)) == {"mine": "B"}
    done = ghi(people.member, "punch", "--unguarded", "--json", mine)
    assert (done.exit_code, json.loads(done.stdout)["rows"][0]["result"]["files"]) == (0, 1)
    assert mine.stat().st_blocks <= 8
    listed = ghi(people.member, "ls", "-l", data / "lab")
    assert listed.stdout.startswith("H ")
    assert ".tar:" in listed.stdout
    assert ghi(people.member, "verify", mine).exit_code == 0
    assert ghi(people.member, "stage", mine).exit_code == 0
    assert mine.read_bytes() == b"content" * 500
    assert mine.stat().st_mode & 0o777 == 0o600


def test_another_ones_file_is_out_of_reach(ghi: Ghi, data: Path, people: People) -> None:
    secret = make(data / "scratch/secret", people.uid(people.stranger))
    shown = make(data / "scratch/shown", people.uid(people.stranger), mode=0o644)
    for action in ("put", "stage", "pin", "unpin", "lock", "unlock", "verify"):
        done = ghi(people.member, action, secret)
        assert done.exit_code == 8, action
        assert "Permission denied" in done.stderr
    # What he can read he may put, but not free.
    assert ghi(people.member, "put", shown).exit_code == 0
    done = ghi(people.member, "punch", "--unguarded", shown)
    assert done.exit_code == 8
    assert "only its owner" in done.stderr
    assert ghi(people.stranger, "put", "--punch", "--unguarded", secret).exit_code == 0
    # A stub has no permissions, and those that it had still count.
    assert "Permission denied" in ghi(people.member, "stage", secret).stderr
    assert ghi(people.stranger, "stage", secret).exit_code == 0


def test_names_in_a_closed_directory_are_not_learned(ghi: Ghi, data: Path, people: People) -> None:
    closed = data / "scratch/closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, people.uid(people.stranger), -1)
    make(closed / "name", people.uid(people.stranger), mode=0o666)
    assert ghi(people.stranger, "put", "-R", closed).exit_code == 0
    there = ghi(people.member, "put", closed / "name")
    absent = ghi(people.member, "put", closed / "missing")
    assert there.stderr.replace("name", "") == absent.stderr.replace("missing", "")
    listing = ghi(people.member, "put", "-R", closed)
    assert "Permission denied" in listing.stderr
    assert "closed/name" not in listing.stderr
    (closed / "name").unlink()
    time.sleep(1)
    removed = ghi(people.member, "undelete", closed / "name")
    never = ghi(people.member, "undelete", closed / "missing")
    assert removed.stderr.replace("name", "") == never.stderr.replace("missing", "")
    below = ghi(people.member, "undelete", "-R", data)
    assert below.exit_code == 8
    assert "closed" not in below.stderr + below.stdout
    assert ghi(people.member, "status", "1").exit_code in (3, 5)


def test_groups_and_access_control_lists_count(ghi: Ghi, data: Path, people: People) -> None:
    ours = make(data / "scratch/ours", people.uid(people.stranger), mode=0o640)
    os.chown(ours, -1, people.gid)
    assert ghi(people.member, "put", ours).exit_code == 0
    listed = make(data / "scratch/listed", people.uid(people.stranger), mode=0o600)
    assert ghi(people.member, "put", listed).exit_code == 8
    subprocess.run(["setfacl", "-m", f"u:{people.member}:r", listed], check=True)
    assert ghi(people.member, "put", listed).exit_code == 0
    assert ghi(people.stranger, "punch", "--unguarded", listed).exit_code == 0
    assert ghi(people.member, "stage", listed).exit_code == 0


def test_a_pi_acts_for_the_project(
    ghi: Ghi, data: Path, people: People, database: Database, settings: Settings
) -> None:
    change = ProjectChange(path=os.fsencode(data / "lab"), pis=[people.pi])
    with database.transaction() as session:
        catalog.add_project(session, identity.by_uid(settings, 0), "lab", change)
    theirs = make(data / "lab/theirs", people.uid(people.member))
    assert ghi(people.pi, "put", "--punch", "--unguarded", theirs).exit_code == 0
    assert theirs.stat().st_blocks <= 8
    elsewhere = make(data / "scratch/elsewhere", people.uid(people.stranger))
    assert ghi(people.pi, "put", elsewhere).exit_code == 8


def test_pins_hold_until_they_are_taken_away(ghi: Ghi, data: Path, people: People) -> None:
    mine = make(data / "lab/mine", people.uid(people.member))
    ghi(people.member, "put", mine)
    assert ghi(people.member, "pin", "--for", "1d", mine).exit_code == 0
    assert ghi(people.member, "ls", mine).stdout.startswith("B p")
    done = ghi(people.member, "punch", "--unguarded", mine)
    assert done.exit_code == 8
    assert "it is pinned until" in done.stderr
    assert ghi(people.member, "unpin", mine).exit_code == 0
    done = ghi(people.member, "pin", "--until", "2020-01-31", mine)
    assert done.exit_code == 4
    assert "2020-01-31T00:00:00Z has passed" in done.stderr
    assert ghi(people.member, "punch", "--unguarded", mine).exit_code == 0


def test_the_script_is_called_by_its_name(tmp_path: Path) -> None:
    """And not as the command of `datamgr` that it is."""
    script = [sys.executable, "-c", "from datamgr.cli.main import ghi; ghi()"]
    for said, arguments in (
        ("Usage: ghi put [OPTIONS]", ["put"]),
        ("ghi: --for: 'x' is no duration", ["pin", "--for", "x", tmp_path]),
    ):
        done = subprocess.run([*script, *arguments], capture_output=True, text=True, check=False)
        assert done.stderr.startswith(said)


def test_lists_may_end_names_with_nul(ghi: Ghi, ground: Path, data: Path, people: People) -> None:
    mine = [make(data / "lab" / name, people.uid(people.member)) for name in ("a\nb", "c")]
    (ground / "list").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in mine))
    assert ghi(people.member, "put", "-0", "-f", ground / "list").exit_code == 0
    done = ghi(people.member, "ls", "--json", "-0", "-f", ground / "list")
    assert letters(done) == {"a\nb": "B", "c": "B"}


def test_a_locked_file_stays_locked_through_everything(
    ghi: Ghi, data: Path, people: People
) -> None:
    mine = make(data / "lab/mine", people.uid(people.member))
    assert ghi(people.member, "lock", mine).exit_code == 0
    for action in (("put",), ("punch", "--unguarded"), ("stage",)):
        assert ghi(people.member, *action, mine).exit_code == 0
        with pytest.raises(PermissionError):
            mine.rename(data / "lab/moved")
    assert mine.read_bytes() == b"content" * 500
    assert ghi(people.stranger, "unlock", mine).exit_code == 8
    assert ghi(people.member, "unlock", mine).exit_code == 0
    mine.unlink()


def test_a_removed_file_comes_back_as_it_was(ghi: Ghi, data: Path, people: People) -> None:
    mine = make(data / "lab/mine", people.uid(people.member), mode=0o640)
    os.setxattr(mine, "user.note", b"kept")
    os.utime(mine, ns=(10**18, 10**18 + 7))
    ghi(people.member, "put", "--punch", "--unguarded", mine)
    mine.unlink()
    deadline = time.monotonic() + 120
    while (done := ghi(people.member, "undelete", mine)).exit_code and time.monotonic() < deadline:
        time.sleep(0.2)
    assert done.exit_code == 0, done.stderr
    status = mine.stat()
    assert mine.read_bytes() == b"content" * 500
    assert (status.st_uid, status.st_mode & 0o777) == (people.uid(people.member), 0o640)
    assert status.st_mtime_ns == 10**18 + 7
    assert os.getxattr(mine, "user.note") == b"kept"
    assert letters(ghi(people.member, "ls", "--json", mine)) == {"mine": "B"}


def test_requests_wait_run_and_can_be_cancelled(
    ghi: Ghi, data: Path, people: People, database: Database
) -> None:
    many = data / "lab/many"
    many.mkdir()
    for number in range(3000):
        make(many / f"f{number}", people.uid(people.member))
    os.chown(many, people.uid(people.member), -1)
    with database.transaction() as session:
        # The first cannot begin a container, so that the second has to wait.
        session.execute(sa.text("LOCK TABLE tier_container IN ACCESS EXCLUSIVE MODE"))
        first = ghi(people.member, "put", "-R", "--no-wait", "--json", many)
        number = json.loads(first.stdout)["rows"][0]["id"]
        later = ghi(people.member, "put", "-R", "--no-wait", "--json", many)
        waiting = json.loads(later.stdout)["rows"][0]["id"]
        assert ghi(people.stranger, "cancel", str(waiting)).exit_code == 5
        assert ghi(people.member, "cancel", str(waiting)).exit_code == 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        row = json.loads(ghi(people.member, "status", "--json", str(number)).stdout)["rows"][0]
        if row["state"] == "succeeded":
            break
        time.sleep(0.1)
    assert row["result"]["files"] == 3000
    assert ghi(people.member, "cancel", str(number)).exit_code == 6
    assert ghi(people.member, "status", "999999").exit_code == 3
    assert ghi(people.member, "put", data / "lab/missing").exit_code == 8
    told = json.loads(ghi(people.member, "status", "--json").stdout)["rows"]
    assert [(row["action"], row["state"]) for row in told] == [("put", "partial")]
    assert json.loads(ghi(people.stranger, "status", "--json").stdout)["rows"] == []


def test_a_list_of_many_paths_is_cut_into_requests(
    ghi: Ghi, data: Path, people: People, ground: Path
) -> None:
    mine = make(data / "lab/mine", people.uid(people.member))
    names = ground / "list"
    names.write_bytes((os.fsencode(mine) + b"\0") * 25_000)
    done = ghi(people.member, "put", "-0", "-f", names, "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["paths"] for row in rows] != []
    assert sum(row["paths"] for row in rows) == 25_000
    assert len(rows) > 1


GARBAGE = (
    b"",
    b"\0" * 100_000 + b"\n",
    b"{}\n",
    b"[]\n",
    b'{"do": "submit"}\n',
    b'{"do": "submit", "request": {"root": "data", "action": "put"}, "paths": ["../x"]}\n',
    b'{"do": "submit", "request": {"root": "data", "action": "put"}, "paths": ["/etc"]}\n',
    b'{"do": "submit", "request": {"root": "data", "action": "put"}, "paths": [7]}\n',
    b'{"do": "submit", "request": {"root": "data", "action": "x"}, "paths": ["a"]}\n',
    b'{"do": "submit", "request": {"root": "none", "action": "put"}, "paths": ["a"]}\n',
    b'{"do": "show", "request": 1e400, "failures": 1}\n',
    b'{"do": "show", "request": 99999999999999999999999, "failures": 1}\n',
    b'{"do": "show", "request": 1, "failures": 99999999999999999999999}\n',
    b'{"do": "submit", "request": {"root": "data", "action": "put"}, "paths": "ab"}\n',
    b'{"do": "submit", "request": {"root": "data", "action": "pin", "until": "2099-01-01T00:00"}, '
    b'"paths": ["a"]}\n',
    b'{"do": "list", "all": true, "limit": -5}\n',
    b'{"do": "cancel", "request": true}\n',
    b'{"do": "states", "root": "data", "files": [[1, 2, 3]]}\n',
    b'{"do": "states", "root": "data", "files": [[-1, 2, 3, 99999999999999999999999999]]}\n',
    b"[" * 50_000 + b"\n",
    os.urandom(5 << 20),
)  # fmt: skip


def test_garbage_is_refused_and_harms_nothing(ghi: Ghi, ground: Path, people: People) -> None:
    for said in GARBAGE:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(ground / "run/tier.sock"))
            client.settimeout(30)
            try:
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                heard = client.recv(1 << 16)
            except (BrokenPipeError, ConnectionResetError):
                heard = b""
        if heard:
            told = json.loads(heard)
            assert "refused" in told or told["answer"] == [["G    ", ""]], (said[:99], told)
            # Nobody fills the log with it.
            assert "internal error" not in told.get("refused", ""), (said[:99], told)
        assert ghi(people.member, "df", "--json").exit_code == 0, said[:99]


def test_without_a_daemon_users_are_told(ground: Path, data: Path, people: People) -> None:
    mine = make(data / "lab/mine", people.uid(people.member))
    config = ground / "datamgr.toml"
    whole = config.read_text()
    # Also with the settings of a client, which name no root.
    for text in (whole, whole.partition("[tier.")[0]):
        config.write_text(text)
        done = forked.call_as(people.member, ground / "out", "ghi", "put", mine)
        assert done.exit_code == 7
        assert "an operator starts it by `datamgr tier daemon`" in done.stderr


def test_a_daemon_that_is_just_starting_is_asked(
    ground: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there at the first look, and has the root at the second."""
    monkeypatch.setenv("DATAMGR_CONFIG", str(ground / "datamgr.toml"))
    answers = client._answers
    seen: list[Path] = []

    def not_at_first(place: Path) -> bool:
        seen.append(place)
        return len(seen) > 1 and answers(place)

    monkeypatch.setattr(client, "_answers", not_at_first)
    with daemon(ground):
        # Its socket has a name before it listens, and listens before the root is taken.
        place = ground / "run/tier.sock"
        eventually(lambda: answers(place), "the daemon listens")
        Remote(place).ask("roots")
        with client.connect(None) as asked:
            assert asked.is_daemon
            assert asked.ask("roots")
        monkeypatch.setattr(client, "_answers", lambda _: False)
        with pytest.raises(ConflictError, match="try again when it has ended"):
            client.connect(None).__enter__()


def test_a_daemon_waits_for_a_command_that_works_by_itself(
    ground: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAMGR_CONFIG", str(ground / "datamgr.toml"))
    with ExitStack() as stack:
        with client.connect(None) as alone:
            assert not alone.is_daemon
            stack.enter_context(daemon(ground))
            said = ground / "daemon.log"
            eventually(lambda: "waiting: another process" in said.read_text(), "it waits")
        assert Remote(ground / "run/tier.sock").ask("roots")


def test_somebody_manages_a_directory_of_his_own(
    ground: Path, data: Path, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root and without a daemon."""
    own, another = data / "scratch/own", data / "scratch/another"
    store, its_store = ground / "own-archive", ground / "its-archive"
    for folder in (own, store, another, its_store):
        folder.mkdir(mode=0o700)
        os.chown(folder, people.uid(people.member), -1)
    mine = make(own / "mine", people.uid(people.member))
    config = ground / "own.toml"
    config.write_text(
        f"state_dir = '{store}-state'\n[tier.own]\nroot = '{own}'\narchive = '{store}'\n"
        f"[tier.another]\nroot = '{another}'\narchive = '{its_store}'\n"
    )
    monkeypatch.setenv("DATAMGR_CONFIG", str(config))
    # A database of his own, too.
    monkeypatch.delenv("DATAMGR_DATABASE__URL")
    monkeypatch.delenv("DATAMGR_STATE_DIR")
    state = Path(f"{store}-state")
    state.mkdir(mode=0o700)
    os.chown(state, people.uid(people.member), -1)

    def call(*arguments: str | Path) -> Done:
        return forked.call_as(people.member, ground / "out", "ghi", *arguments)

    done = call("put", "--punch", "--unguarded", "-R", own)
    assert done.exit_code == 0, done.stderr
    assert mine.stat().st_blocks <= 8
    assert call("ls", mine).stdout.startswith("H")
    assert call("put", "--no-wait", mine).exit_code == 7
    # Two requests, one after the other.
    make(another / "too", people.uid(people.member))
    assert call("stage", mine).exit_code == 0
    assert call("put", "-R", another, own).exit_code == 0
    done = call("verify", "-R", another, own)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("verify: 1 file") == 2
    assert mine.read_bytes() == b"content" * 500


@pytest.mark.parametrize("do", ["roots", "df", "list", "submit"])
def test_the_daemon_of_an_ordinary_account_serves_nobody_else(
    settings: Settings, database: Database, people: People, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    service = Service(settings, database, {})
    monkeypatch.setattr(os, "geteuid", lambda: people.uid(people.member))
    with pytest.raises(ForbiddenError, match=f"acts for {people.member} alone"):
        service.ask(people.uid(people.stranger), {"do": do})
    assert service.ask(people.uid(people.member), {"do": "roots"}) == []


def test_two_daemons_do_not_share_a_root(ghi: Ghi, ground: Path) -> None:
    second = subprocess.run(
        [*DATAMGR, "tier", "daemon"], capture_output=True, check=False, timeout=60
    )
    assert second.returncode == 6
    assert b"another process answers" in second.stderr


def test_upkeep_finds_what_nobody_watched(
    ground: Path, data: Path, people: People, capfd: pytest.CaptureFixture[str]
) -> None:
    first = make(data / "lab/first", people.uid(people.member))
    second = make(data / "lab/second", people.uid(people.member))
    with daemon(ground):
        done = forked.call_as(
            people.member, ground / "out", "ghi", "put", "--punch", "--unguarded", first, second
        )
        assert done.exit_code == 0, done.stderr
    first.rename(data / "lab/renamed")
    second.unlink()
    found = subprocess.run(
        [*DATAMGR, "tier", "reconcile", "--json"], capture_output=True, check=True
    )
    (row,) = json.loads(found.stdout)["rows"]
    assert (row["seen"], row["renamed"], row["removed"]) == (1, 1, 1)
    # By a list in place of a walk, with something in it that is gone since the scan.
    (data / "lab/renamed").rename(data / "lab/again")
    listed = subprocess.run(
        [*DATAMGR, "tier", "reconcile", "data", "-0", "-f", "-", "--json"],
        input=b"%b/lab/again\0%b/lab/never\0" % (bytes(data), bytes(data)),
        capture_output=True,
        check=True,
    )
    (row,) = json.loads(listed.stdout)["rows"]
    assert (row["seen"], row["renamed"], row["removed"]) == (1, 1, 0)
    with daemon(ground):
        done = forked.call_as(people.member, ground / "out", "ghi", "undelete", second)
        assert done.exit_code == 0, done.stderr
    assert second.read_bytes() == b"content" * 500


def test_a_damaged_container_is_found_and_its_files_named(
    ground: Path, data: Path, people: People
) -> None:
    mine = make(data / "lab/mine", people.uid(people.member))
    with daemon(ground):
        forked.call_as(people.member, ground / "out", "ghi", "put", mine)
    whole = subprocess.run([*DATAMGR, "tier", "scrub"], capture_output=True, check=True)
    assert b"0 damaged" in whole.stdout
    (container,) = (ground / "archive").iterdir()
    with container.open("r+b") as file:
        file.seek(3000)
        file.write(b"X")
    done = subprocess.run([*DATAMGR, "tier", "scrub", "--json"], capture_output=True, check=False)
    assert done.returncode == 8
    (damage,) = json.loads(done.stdout)["rows"][0]["damaged"]
    assert [file["path"] for file in damage["files"]] == ["lab/mine"]
    assert (damage["container"], damage["copy"]) == (container.name, "archive")
    done = subprocess.run([*DATAMGR, "tier", "scrub"], capture_output=True, check=False)
    assert f"\n  {container.name} in `archive`: ".encode() in done.stdout
    assert done.stderr == b""


def test_a_lost_database_is_made_again_from_the_archive(
    ground: Path, data: Path, people: People, database: Database
) -> None:
    names = {name: os.urandom(5000) for name in ("disk", "stub", "gone")}
    for name, content in names.items():
        make(data / "lab" / name, people.uid(people.member), content)
    with daemon(ground):
        for arguments in (("put", "-R", data / "lab"), ("punch", "--unguarded", data / "lab/stub")):
            done = forked.call_as(people.pi, ground / "out", "ghi", *arguments)
        done = forked.call_as(people.member, ground / "out", "ghi", "put", "-R", data / "lab")
        assert done.exit_code == 0, done.stderr
        done = forked.call_as(
            people.member, ground / "out", "ghi", "punch", "--unguarded", data / "lab/stub"
        )
        assert done.exit_code == 0, done.stderr
    (data / "lab/gone").unlink()
    with database.transaction() as session:
        session.execute(sa.text("TRUNCATE tier_file, tier_container CASCADE"))
    done = subprocess.run(
        [*DATAMGR, "tier", "rebuild", "data", "--json"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["on_both"], row["in_archive"]) == (1, 1)
    again = subprocess.run([*DATAMGR, "tier", "rebuild", "data"], capture_output=True, check=False)
    assert again.returncode == 6
    with daemon(ground):
        for action, name in (("stage", "stub"), ("undelete", "gone")):
            path = data / "lab" / name
            done = forked.call_as(people.member, ground / "out", "ghi", action, path)
            assert done.exit_code == 0, done.stderr
    for name, content in names.items():
        assert (data / "lab" / name).read_bytes() == content


def test_a_stopped_daemon_goes_on_with_a_request(ground: Path, data: Path, people: People) -> None:
    many = data / "lab/many"
    many.mkdir()
    for number in range(2000):
        make(many / f"f{number}", people.uid(people.member))
    os.chown(many, people.uid(people.member), -1)
    with daemon(ground) as process:
        done = forked.call_as(
            people.member, ground / "out", "ghi", "put", "-R", "--no-wait", "--json", many
        )
        number = json.loads(done.stdout)["rows"][0]["id"]
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
    with daemon(ground):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            done = forked.call_as(
                people.member, ground / "out", "ghi", "status", "--json", str(number)
            )
            row = json.loads(done.stdout)["rows"][0]
            if row["finished_at"] is not None:
                break
            time.sleep(0.1)
        assert row["state"] == "succeeded"
        listed = forked.call_as(people.member, ground / "out", "ghi", "ls", "--json", many)
        assert set(letters(listed).values()) == {"B"}


def repairs(said: bytes) -> list[bool]:
    """Of each damage, whether it was repaired."""
    return [damage["repaired"] for damage in json.loads(said)["rows"][0]["damaged"]]


def test_two_archives_survive_the_damage_of_one(ground: Path, data: Path, people: People) -> None:
    config, second = ground / "datamgr.toml", ground / "second"
    second.mkdir()
    config.write_text(config.read_text() + f"second = '{second}'\n")
    files = [make(data / f"lab/f{n}", people.uid(people.member), os.urandom(9000)) for n in (1, 2)]
    contents = [file.read_bytes() for file in files]
    with daemon(ground):
        for file in files:
            done = forked.call_as(
                people.member, ground / "out", "ghi", "put", "--punch", "--unguarded", file
            )
            assert done.exit_code == 0, done.stderr
    first, other = sorted((ground / "archive").iterdir())
    assert sorted(os.listdir(second)) == [first.name, other.name]
    with first.open("r+b") as container:
        container.seek(4000)
        container.write(b"XXXX")
    other.unlink()
    with daemon(ground):
        for file, content in zip(files, contents, strict=True):
            done = forked.call_as(people.member, ground / "out", "ghi", "stage", file)
            assert done.exit_code == 0, done.stderr
            assert file.read_bytes() == content
        assert forked.call_as(people.member, ground / "out", "ghi", "verify", *files).exit_code == 8
    scrub = [*DATAMGR, "tier", "scrub", "--json"]
    found = subprocess.run(scrub, capture_output=True, check=False)
    assert found.returncode == 8
    assert [damage["repaired"] for damage in json.loads(found.stdout)["rows"][0]["damaged"]] == [
        False,
        False,
    ]
    assert [damage["copy"] for damage in json.loads(found.stdout)["rows"][0]["damaged"]] == [
        "archive",
        "archive",
    ]
    found = subprocess.run([*scrub, "--repair"], capture_output=True, check=False)
    assert found.returncode == 0, found.stderr
    assert [damage["repaired"] for damage in json.loads(found.stdout)["rows"][0]["damaged"]] == [
        True,
        True,
    ]
    for name in os.listdir(second):
        assert (ground / "archive" / name).read_bytes() == (second / name).read_bytes()
    assert repairs(subprocess.run(scrub, capture_output=True, check=True).stdout) == []


def test_the_web_asks_with_the_rights_of_who_is_logged_in(
    ground: Path, data: Path, people: People, database: Database
) -> None:
    """A file that only the PI reads: nothing is done to it for others, whatever the form says."""
    secret = make(data / "lab/secret", people.uid(people.pi))
    content, settings = secret.read_bytes(), config.load()
    form = {"root": "data", "unguarded": "true", "paths": display.to_address(b"lab/secret")}

    def asked(client: httpx.Client, **fields: str) -> tuple[str, list[str]]:
        answer = client.post("/tiering/requests", data=form | fields)
        assert answer.status_code == 303
        number = int(answer.headers["location"].rpartition("/")[2])
        for _ in range(600):
            with database.transaction(read_only=True) as session:
                if tasks.get(session, number).is_finished:
                    row = requests.show(session, STAFF, number)
                    return row["state"], [failure["reason"] for failure in row["failures"]]
            time.sleep(0.1)
        raise AssertionError(f"request {number} does not end")

    with ExitStack() as stack:
        stack.enter_context(daemon(ground))
        pi, member, stranger = (
            stack.enter_context(serving(settings, database, people.caller(name)))
            for name in (people.pi, people.member, people.stranger)
        )
        for other in (member, stranger):
            refused = asked(other, action="put")
            assert refused[0] == "partial"
            gone = asked(other, action="put", paths=display.to_address(b"lab/nosuch"))
            assert gone[0] == "partial"
        assert asked(pi, action="put") == ("succeeded", [])
        for other in (member, stranger):
            assert asked(other, action="punch")[0] == "partial"
            assert asked(other, action="pin")[0] == "partial"
        assert secret.read_bytes() == content
        assert asked(pi, action="punch") == ("succeeded", [])
        assert secret.stat().st_blocks <= 8
        assert asked(stranger, action="stage")[0] == "partial"
        assert asked(pi, action="stage") == ("succeeded", [])
        assert secret.read_bytes() == content
