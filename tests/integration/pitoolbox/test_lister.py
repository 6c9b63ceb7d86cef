"""The lister: it shows the PI what only others may read, and nobody else anything."""

import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from datamgr import line_server
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import (
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from datamgr.identity import Role
from pitoolbox import listing
from pitoolbox.listing import Listing
from tests import mounts, trees
from tests.accounts import People
from tests.commands import DATAMGR, run_command
from tests.people import make

pytestmark = [mounts.needs_root, pytest.mark.root]

CAP_DAC_READ_SEARCH = 2
NOBODY = 65_534


@contextmanager
def lister(*before: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The process, started by `before` and answering."""
    argv = [*before, *DATAMGR, "perms", "lister"]
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    ) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if "lists directories" in line:
                    break
            else:
                raise AssertionError(f"the lister has ended: {said}")
            yield process
        finally:
            process.kill()


@pytest.fixture
def ground() -> Iterator[Path]:
    """Elsewhere than pytest's directories, which its next session closes to other accounts."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
def perms_settings(
    perms_settings: Settings, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """As of the other tests, with the socket where every account may look for it."""
    place = ground / "run" / "socket"
    place.parent.mkdir(mode=0o711)
    monkeypatch.setenv("DATAMGR_PITOOLBOX__LISTER_SOCKET", str(place))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(ground))
    section = perms_settings.pitoolbox.model_copy(update={"lister_socket": place})
    return perms_settings.model_copy(update={"pitoolbox": section})


@pytest.fixture
def running(perms_settings: Settings) -> Iterator[subprocess.Popen[str]]:
    with lister() as process:
        yield process


Ls = Callable[..., Listing]


@pytest.fixture
def ls(database: Database, perms_settings: Settings, people: People, project: Project) -> Ls:
    """The listing as the PI gets it, or `by` somebody else."""

    def ask(path: bytes = b".", *, by: str | None = None, **how: Any) -> Listing:
        caller = people.caller(by or people.pi)
        with database.transaction(read_only=True) as session:
            return listing.list_directory(perms_settings, session, caller, "cosmo", path, **how)

    return ask


def names(listed: Listing) -> list[bytes]:
    return [entry.name for entry in listed.entries]


def question(project: Project, **changes: object) -> dict[str, object]:
    told = {
        "root": os.fsdecode(project.path),
        "device": project.root_device,
        "inode": project.root_inode,
        "path": ".",
        "after": None,
        "limit": 10,
        "sort": "name",
    }
    return told | changes


def ask_raw(place: Path, *pieces: bytes, pause_s: float = 0) -> bytes:
    """What is answered to these bytes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        client.settimeout(120)
        try:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause_s)
            client.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        heard = b""
        try:
            while piece := client.recv(1 << 16):
                heard += piece
        except ConnectionResetError:  # it did not read all that was sent
            pass
        return heard


def refused(place: Path, told: object) -> str:
    """The sentence with which a question is refused."""
    answer = json.loads(ask_raw(place, json.dumps(told).encode() + b"\n"))
    assert "entries" not in answer, answer
    return str(answer["refused"])


# --- what is seen ----------------------------------------------------------------------------


@pytest.mark.usefixtures("running")
def test_a_directory_that_only_root_may_read_is_listed_for_the_pi(
    ls: Ls, project: Project, people: People
) -> None:
    root = Path(os.fsdecode(project.path))
    closed = make(root / "closed", 0o700)
    (closed / "secret").write_bytes(b"12345")
    as_pi = subprocess.run(
        ["ls", str(closed)], user=people.uid(people.pi), capture_output=True, check=False
    )
    assert as_pi.returncode == 2  # the PI may not
    listed = ls(b"closed")
    assert names(listed) == [b"file-in-closed", b"secret"]
    assert listed.here.mode == 0o700 and listed.here.owner == "root"
    assert listed.entries[1].size_bytes == 5
    assert listed.is_privileged and listed.capped is None and listed.after is None


@pytest.mark.usefixtures("running")
def test_each_kind_of_entry_is_shown_with_all_that_a_pi_looks_for(
    ls: Ls, project: Project, people: People
) -> None:
    root = Path(os.fsdecode(project.path))
    (root / "dir").mkdir()
    os.chown(root / "dir", people.uid(people.member), people.gid)
    (root / "dir").chmod(0o2775)
    (root / "file").write_bytes(b"x" * 1000)
    os.chown(root / "file", people.uid(people.pi), people.second_gid)
    (root / "file").chmod(0o640)
    os.utime(root / "file", ns=(0, 1_600_000_000_000_000_000))
    (root / "listed").touch()
    subprocess.run(["setfacl", "-m", "u:nobody:r", root / "listed"], check=True)
    (root / "defaults").mkdir()
    subprocess.run(["setfacl", "-d", "-m", "u:nobody:r", root / "defaults"], check=True)
    (root / "link").symlink_to("/etc/shadow")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "sock"))
    os.mknod(root / "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(root / "pipe", 4_000_000_000, 4_000_000_001)

    by_name = {entry.name: entry for entry in ls().entries}
    assert {name: entry.kind for name, entry in by_name.items()} == {
        b"dir": "d", b"file": "f", b"listed": "f", b"defaults": "d", b"link": "l",
        b"pipe": "p", b"sock": "s", b"dev": "c",
    }  # fmt: skip
    entry = by_name[b"file"]
    assert (entry.owner, entry.group) == (people.pi, people.second_group)
    assert (entry.mode, entry.size_bytes, entry.mtime.timestamp()) == (0o640, 1000, 1.6e9)
    assert by_name[b"dir"].is_setgid and not by_name[b"defaults"].is_setgid
    marked = {name for name, entry in by_name.items() if entry.has_acl}
    assert marked == {b"listed", b"defaults"}
    assert by_name[b"link"].target == b"/etc/shadow"
    assert (by_name[b"pipe"].owner, by_name[b"pipe"].group) == ("4000000000", "4000000001")


@pytest.mark.usefixtures("running")
def test_names_are_bytes_and_all_come_back(ls: Ls, project: Project) -> None:
    hostile = [*trees.HOSTILE_NAMES, bytes(range(1, 47)), bytes(range(48, 256)), b"\xff" * 255]
    for name in hostile:
        Path(os.fsdecode(project.path + b"/" + name)).mkdir(exist_ok=True)
    assert names(ls(limit=1000)) == sorted(set(hostile))
    for name in hostile:
        assert ls(name).path == name.rstrip(b"/") and ls(name).entries == ()


@pytest.mark.usefixtures("running")
def test_the_command_shows_a_page_and_how_to_go_on(
    ls: Ls, project: Project, people: People
) -> None:
    root = Path(os.fsdecode(project.path))
    for name in ("a\x1b[31m", "b", "c"):
        (root / name).touch()
    (root / "d").symlink_to("/etc")
    done = run_command("perms", "ls", "cosmo", "--limit", "2")
    assert done.exit_code == 0, done.stderr
    assert "a\\x1b[31m" in done.stdout and "\x1b" not in done.stdout
    after = done.stdout.split("--after ")[1].strip()
    done = run_command("perms", "ls", "cosmo", os.fsdecode(root), "--after", after)
    assert "d -> /etc" in done.stdout and "--after" not in done.stdout
    rows = run_command("perms", "ls", "cosmo", "--json", "--sort", "mtime").json
    assert {row["name"] for row in rows["rows"]} == {"a\x1b[31m", "b", "c", "d"}
    assert rows["here"]["group"] == people.group
    done = run_command("perms", "ls", "cosmo", "--after", "!")
    assert done.exit_code == InvalidError.exit_code


# --- pages -----------------------------------------------------------------------------------


def test_a_huge_directory_is_paged_without_being_held(
    ls: Ls, project: Project, running: subprocess.Popen[str]
) -> None:
    """Every name once, in order; the process stays below 20 MB more than before."""
    many = Path(os.fsdecode(project.path)) / "many"
    many.mkdir()
    wanted = [b"%06d" % number for number in range(100_000)]
    at = os.open(many, os.O_RDONLY)
    for name in wanted:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    process = psutil.Process(running.pid)
    ls(b"many")
    before = process.memory_info().rss
    first = ls(b"many", limit=1000)
    assert first.read == 100_000 and first.capped is None
    seen, after = names(first), first.after
    for _ in range(3):
        page = ls(b"many", limit=1000, after=after)
        seen += names(page)
        after = page.after
    assert seen == wanted[:4000]
    last = ls(b"many", limit=1000, after=b"098999")
    assert names(last) == wanted[-1000:] and last.after is None
    assert process.memory_info().rss - before < 20_000_000


@pytest.mark.usefixtures("running")
def test_pages_in_other_orders_show_each_entry_once(ls: Ls, project: Project) -> None:
    root = Path(os.fsdecode(project.path))
    for number in range(50):
        path = root / f"f{number:02}"
        path.write_bytes(b"x" * (number % 7))
        os.utime(path, ns=(0, (number % 5 - 2) * 10**9))
    for sort, key in (
        ("size", lambda number: (-(number % 7), number)),
        ("mtime", lambda number: (-(number % 5), number)),
    ):
        wanted = [b"f%02d" % number for number in sorted(range(50), key=key)]
        seen: list[bytes] = []
        after = None
        while True:
            page = ls(sort=sort, limit=7, after=after)
            seen += names(page)
            after = page.after
            if after is None:
                break
        assert seen == wanted


def test_what_is_beyond_the_cap_is_said_to_be_missing(ls: Ls, project: Project) -> None:
    root = Path(os.fsdecode(project.path))
    for number in range(30):
        (root / str(number)).touch()
    with lister(DATAMGR_PITOOLBOX__MAX_NAMES="20"):
        page = ls(limit=1000)
        assert len(page.entries) == page.read == 20
        assert page.capped is not None and "the lister read 20 of them" in page.capped
        assert "Not all: the directory has more" in run_command("perms", "ls", "cosmo").stdout


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.usefixtures("running")
def test_only_who_acts_for_the_project_is_answered(ls: Ls, people: People) -> None:
    for name in (people.member, people.stranger):
        with pytest.raises(ForbiddenError, match="may not ask for changes in project cosmo"):
            ls(by=name)
    assert ls().path == b"."


@pytest.mark.usefixtures("running")
def test_staff_may_look_into_every_project(
    database: Database, perms_settings: Settings, people: People, project: Project
) -> None:
    staff = people.caller(people.stranger, Role.STAFF)
    with database.transaction(read_only=True) as session:
        assert listing.list_directory(perms_settings, session, staff, "cosmo").entries == ()


@pytest.mark.usefixtures("running")
def test_nothing_outside_is_listed(ls: Ls, project: Project, ground: Path) -> None:
    root = Path(os.fsdecode(project.path))
    outside = make(ground / "outside", 0o755)
    (root / "out").symlink_to(outside)
    (root / "in").mkdir()
    (root / "also-in").symlink_to("in")
    (root / "file").touch()
    (root / "mounted").mkdir()
    with pytest.raises(InvalidError, match="goes up"):
        ls(b"../outside")
    with pytest.raises(InvalidError, match="outside of the project"):
        ls(os.fsencode(outside))
    with pytest.raises(InvalidError, match="no directory"):
        ls(b"out")
    with pytest.raises(InvalidError, match="no directory"):
        ls(b"also-in")
    with pytest.raises(InvalidError, match="no directory"):
        ls(b"file")
    with pytest.raises(InvalidError, match="a symbolic link stands there"):
        ls(b"out/dir")
    with pytest.raises(NotFoundError, match="nowhere cannot be listed: it is not there"):
        ls(b"nowhere")
    with mounts.bind(outside, root / "mounted"), pytest.raises(InvalidError, match="mounted"):
        ls(b"mounted")
    with mounts.tmpfs(root / "mounted", 1 << 20):
        with pytest.raises(InvalidError, match="something else is mounted there"):
            ls(b"mounted")
        assert [e.kind for e in ls().entries if e.name == b"mounted"] == ["mount"]


@pytest.mark.usefixtures("running")
def test_a_replaced_root_is_refused(ls: Ls, project: Project) -> None:
    root = Path(os.fsdecode(project.path))
    root.rename(root.with_name("away"))
    root.mkdir()
    with pytest.raises(InvalidError, match="it was replaced"):
        ls()
    root.rmdir()
    root.symlink_to("/etc")
    with pytest.raises(InvalidError, match="it was replaced"):
        ls()


@pytest.mark.usefixtures("running")
def test_the_lister_believes_nothing_that_it_is_asked(
    perms_settings: Settings, project: Project, ground: Path
) -> None:
    """The questions of a client that leaves out all checks of its own."""
    place = perms_settings.lister_socket
    root = os.fsdecode(project.path)
    etc = os.stat("/etc")
    asked = question(project)
    assert "none of the directories in pitoolbox.roots" in refused(
        place, asked | {"root": "/etc", "device": etc.st_dev, "inode": etc.st_ino}
    )
    for path in (f"{ground}/../../../etc", f"{ground}/./cosmo", f"{root}/", "relative", ""):
        assert "is no path of a project" in refused(place, asked | {"root": path})
    assert "it was replaced" in refused(place, asked | {"inode": 1})
    for path in ("..", "a/../..", "/etc", "", "a//b", "a/./b", "a\0b"):
        assert "is no path below the project" in refused(place, asked | {"path": path})
    for change in (
        {"limit": 0}, {"limit": 10**9}, {"limit": True}, {"limit": "5"}, {"sort": "owner"},
        {"sort": {}}, {"device": -1}, {"device": None}, {"after": 5}, {"root": None},
        {"path": ["."]}, {"path": "\u1234"}, {"sort": "size", "after": "name"},
        {"sort": "size", "after": "9" * 5000 + "/x"},
    ):  # fmt: skip
        assert refused(place, asked | change)
    for odd in ([], "x", 5, None, {}, {"root": root}):
        assert refused(place, odd)
    answer = json.loads(ask_raw(place, json.dumps(asked).encode() + b"\n"))
    assert answer["entries"] == []


@pytest.mark.usefixtures("running")
def test_garbage_harms_nobody(perms_settings: Settings, project: Project) -> None:
    place = perms_settings.lister_socket
    deep = b'{"root":' + b"[" * 30_000 + b"\n"
    for garbage in (b"\n", b"\0\n", b"\xff\xfe\n", b"{\n", b"[" * 60_000 + b"\n", deep):
        assert b"malformed" in ask_raw(place, garbage), garbage[:20]
    assert b"too long" in ask_raw(place, *[b"x" * 50_000] * 5)
    assert ask_raw(place, b"no newline") == b""
    assert ask_raw(place) == b""
    good = json.dumps(question(project)).encode() + b"\n"
    assert b'"entries": []' in ask_raw(place, good)
    assert b'"entries": []' in ask_raw(place, *(good[i : i + 40] for i in range(0, 999, 40)))
    assert b'"entries": []' in ask_raw(place, good + b"and more" * 9000)


def test_slow_clients_are_ended_and_delay_nobody(
    ls: Ls, perms_settings: Settings, running: subprocess.Popen[str]
) -> None:
    place = perms_settings.lister_socket
    slow = []
    for _ in range(line_server.MAX_CONNECTIONS + 50):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(place))
        client.settimeout(120)
        with suppress(BrokenPipeError):  # ended already, to make room
            client.sendall(b"{")
        slow.append(client)
    began = time.monotonic()
    assert ls().entries == ()
    assert time.monotonic() - began < line_server.ASK_SECONDS
    assert psutil.Process(running.pid).num_fds() < line_server.MAX_CONNECTIONS + 40
    assert slow[-1].recv(1) == b""  # ended by the lister
    assert time.monotonic() - began < line_server.ASK_SECONDS + 60
    for client in slow:
        client.close()


def test_who_does_not_take_the_answer_delays_nobody(
    ls: Ls, perms_settings: Settings, project: Project, running: subprocess.Popen[str]
) -> None:
    """The answer is bigger than what a socket holds."""
    root = Path(os.fsdecode(project.path))
    for number in range(1000):
        (root / f"{number:0250}").touch()
    asked = json.dumps(question(project, limit=1000)).encode() + b"\n"
    clients = []
    for _ in range(20):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(perms_settings.lister_socket))
        client.sendall(asked)
        clients.append(client)
    time.sleep(0.5)
    began = time.monotonic()
    assert len(ls(limit=10).entries) == 10
    assert time.monotonic() - began < line_server.TAKE_SECONDS / 2
    for client in clients:
        client.close()
    assert len(ls(limit=1000).entries) == 1000
    assert running.poll() is None


# --- who may ask -----------------------------------------------------------------------------


def ask_as(uid: int, gid: int, place: Path, told: object) -> str:
    """What the lister answers to another account, or the name of what went wrong.

    By a fork: the other account need not be able to read this Python.
    """
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            heard = ask_raw(place, json.dumps(told).encode() + b"\n")
        except OSError as error:
            heard = type(error).__name__.encode()
        finally:
            os.write(writing, heard)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


@pytest.mark.usefixtures("running")
def test_another_account_is_refused_by_the_mode_and_by_its_number(
    perms_settings: Settings, project: Project, people: People
) -> None:
    place = perms_settings.lister_socket
    assert stat.S_IMODE(place.stat().st_mode) == 0o660
    pi = people.uid(people.pi)
    assert ask_as(pi, people.gid, place, question(project)) == "PermissionError"
    place.chmod(0o666)
    # The account that it runs as is no exception: others may run as nobody too.
    for uid in (pi, NOBODY):
        answer = json.loads(ask_as(uid, people.gid, place, question(project)))
        assert answer["refused"] == "this account may not ask here"


def test_the_account_of_the_web_pages_may_ask(
    perms_settings: Settings, project: Project, people: People
) -> None:
    place = perms_settings.lister_socket
    with lister(DATAMGR_PITOOLBOX__WEB_ACCOUNT=people.stranger):
        web = pwd.getpwnam(people.stranger)
        assert place.stat().st_gid == web.pw_gid
        answer = ask_as(web.pw_uid, web.pw_gid, place, question(project))
        assert json.loads(answer)["entries"] == []
        # Who is only in its group is let to the socket, and turned away there.
        answer = ask_as(people.uid(people.member), web.pw_gid, place, question(project))
        assert json.loads(answer)["refused"] == "this account may not ask here"


# --- what it may do --------------------------------------------------------------------------


def capabilities(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line[:6]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}


def test_it_has_one_capability_and_no_way_to_another(
    running: subprocess.Popen[str], ls: Ls
) -> None:
    ls()  # threads included
    one = 1 << CAP_DAC_READ_SEARCH
    for thread in Path(f"/proc/{running.pid}/task").iterdir():
        found = capabilities(int(thread.name))
        assert found == {"CapInh": 0, "CapPrm": one, "CapEff": one, "CapBnd": one, "CapAmb": 0}
    status = Path(f"/proc/{running.pid}/status").read_text()
    assert "NoNewPrivs:\t1\n" in status
    assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}\n" in status
    assert "Groups:\t \n" in status
    assert psutil.Process(running.pid).net_connections("inet") == []


def test_it_runs_as_the_systemd_unit_starts_it(
    ls: Ls, perms_settings: Settings, project: Project, people: People
) -> None:
    """setpriv gives what User=, AmbientCapabilities= and CapabilityBoundingSet= give."""
    closed = make(Path(os.fsdecode(project.path)) / "closed", 0o700)
    uid = people.uid(people.stranger)
    os.chown(perms_settings.lister_socket.parent, uid, -1)
    one = ("+dac_read_search",)
    by_unit = (
        "setpriv", f"--reuid={uid}", "--regid=65534", "--clear-groups", "--no-new-privs",
        f"--inh-caps=-all,{one[0]}", f"--ambient-caps=-all,{one[0]}",
        f"--bounding-set=-all,{one[0]}", "--",
    )  # fmt: skip
    with lister(*by_unit) as process:
        assert names(ls(b"closed")) == [f"file-in-{closed.name}".encode()]
        assert capabilities(process.pid)["CapEff"] == 1 << CAP_DAC_READ_SEARCH
        assert capabilities(process.pid)["CapAmb"] == 0


def test_without_root_it_reads_what_its_account_may_and_says_so(
    ls: Ls, perms_settings: Settings, project: Project, people: People
) -> None:
    root = Path(os.fsdecode(project.path))
    make(root / "closed", 0o700)
    uid, gid = people.uid(people.pi), people.gid
    os.chown(perms_settings.lister_socket.parent, uid, gid)
    before = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--")
    with lister(*before) as process:
        assert capabilities(process.pid)["CapPrm"] == 0
        listed = ls()
        assert names(listed) == [b"closed"] and not listed.is_privileged
        with pytest.raises(ForbiddenError, match="the lister may not read it"):
            ls(b"closed")
        assert "runs without privileges" in run_command("perms", "ls", "cosmo").stdout


def test_a_privileged_lister_needs_roots(perms_settings: Settings) -> None:
    done = run_command("perms", "lister", DATAMGR_PITOOLBOX__ROOTS="[]")
    assert done.exit_code == InvalidError.exit_code
    assert "set pitoolbox.roots" in done.stderr


# --- its life --------------------------------------------------------------------------------


def test_when_it_does_not_run_the_sentence_says_who_starts_it(
    ls: Ls, perms_settings: Settings
) -> None:
    wanted = "the lister of directories does not run .* by `datamgr perms lister`"
    with pytest.raises(UnavailableError, match=wanted):
        ls()
    with lister() as process:
        process.kill()  # the socket is left behind
        process.wait()
        assert perms_settings.lister_socket.exists()
        with pytest.raises(UnavailableError, match=wanted):
            ls()
    with lister():
        assert ls().entries == ()


def test_there_is_one_and_it_ends_when_told(running: subprocess.Popen[str], ls: Ls) -> None:
    second = run_command("perms", "lister")
    assert second.exit_code == 6 and "another process answers" in second.stderr
    ls()
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=120) == 0


def test_what_is_no_socket_is_not_removed(perms_settings: Settings) -> None:
    perms_settings.lister_socket.write_text("precious")
    done = run_command("perms", "lister")
    assert done.exit_code == InvalidError.exit_code and "is no socket" in done.stderr
    assert perms_settings.lister_socket.read_text() == "precious"
    done = run_command("perms", "lister", DATAMGR_PITOOLBOX__LISTER_SOCKET="/tmp/" + "x" * 200)
    assert done.exit_code == InvalidError.exit_code and "longer than 107" in done.stderr


def test_it_outlives_who_started_it(perms_settings: Settings, ls: Ls) -> None:
    """As by nohup, or by a service manager that is restarted."""
    script = " ".join([*DATAMGR, "perms", "lister"]) + " </dev/null >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.check_output(["sh", "-c", script]))
    try:
        end = time.monotonic() + 120
        while True:
            try:
                assert ls().entries == ()
                break
            except UnavailableError:
                assert time.monotonic() < end
                time.sleep(0.1)
    finally:
        os.kill(pid, signal.SIGKILL)


# --- an adversary ----------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.usefixtures("running")
def test_directories_that_are_swapped_with_links_lead_nowhere(
    ls: Ls, project: Project, ground: Path, request: pytest.FixtureRequest
) -> None:
    """Every name that comes back is one of inside; a naive listing is led out."""
    root = Path(os.fsdecode(project.path))
    outside = ground / "outside"
    for base, name in ((root / "a", "inside"), (outside, "SECRET")):
        (base / "b" / "c").mkdir(parents=True)
        for directory in (base, base / "b", base / "b" / "c"):
            (directory / name).touch()
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            inside = (root / "a", root / "a/b", root / "a/b/c")[turn % 3]
            target = (outside, outside / "b", outside / "b/c")[turn % 3]
            away = root / "away"
            inside.rename(away)
            inside.symlink_to(target)
            time.sleep(0.0005)
            inside.unlink()
            away.rename(inside)

    adversary = threading.Thread(target=swap)
    adversary.start()
    answered = refusals = led_out = 0
    try:
        until = time.monotonic() + (60 if request.config.getoption("--full-soak") else 5)
        while time.monotonic() < until:
            for path in (b"a", b"a/b", b"a/b/c"):
                try:
                    found = names(ls(path))
                    assert b"SECRET" not in found and b"inside" in found
                    answered += 1
                except (InvalidError, NotFoundError):
                    refusals += 1
                with suppress(OSError):
                    led_out += b"SECRET" in os.listdir(project.path + b"/" + path)
    finally:
        stop.set()
        adversary.join()
    assert answered > 20 and refusals > 5 and led_out > 5
