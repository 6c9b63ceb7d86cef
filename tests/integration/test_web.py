"""`datamgr web` as a process: its port, its token, its end."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from datamgr.api import auth, server, token_file
from datamgr.cli import main
from datamgr.config import Settings
from datamgr.errors import InvalidError, UnavailableError


@contextmanager
def web(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `datamgr web` and the address that it printed."""
    argv = [sys.executable, "-m", "datamgr.cli.main", "web", *arguments]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_what_it_prints_and_ends_cleanly(settings: Settings, number: int) -> None:
    with web("--port", "0") as (process, address):
        base = address.split("/login/")[0]
        with httpx.Client(base_url=base) as client:
            assert client.get("/").status_code == 401
            assert client.get(address).status_code == 303
            assert client.get("/").status_code == 200
        token = (settings.state_dir / "web-token").read_text().strip()
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{base}/", headers=bearer).status_code == 200
        assert (settings.state_dir / "web-address").read_text().strip() == base
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "")
        assert token not in err
        assert address.partition("=")[2] not in err
        assert not (settings.state_dir / "web-address").exists()
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)


def test_several_processes_serve_one_port_and_end_together(settings: Settings) -> None:
    with web("--port", "0", "--workers", "2") as (process, address):
        base = address.split("/login/")[0]
        children = psutil.Process(process.pid).children()
        assert len(children) >= 2
        with httpx.Client(base_url=base) as client:
            # A link is good once, whichever process it reaches.
            assert client.get(address).status_code == 303
            cookies = dict(client.cookies)
        for _ in range(8):
            assert httpx.get(base, cookies=cookies).status_code == 200
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "")
        assert not any(child.is_running() for child in children)


def test_when_one_process_ends_by_itself_all_end(settings: Settings) -> None:
    with web("--port", "0", "--workers", "2") as (process, _):
        children = psutil.Process(process.pid).children()
        children[-1].kill()
        _, err = process.communicate(timeout=30)
        assert process.returncode == UnavailableError.exit_code
        assert "a process of the web pages ended" in err


def test_processes_end_with_a_parent_that_is_killed(settings: Settings) -> None:
    with web("--port", "0", "--workers", "2") as (process, _):
        children = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert (len(gone), alive) == (len(children), [])


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main.run(["web", "--port", str(port)]) == UnavailableError.exit_code
        said = capsys.readouterr().err
        assert f"port {port} of 127.0.0.1 is taken; choose another by --port" in said
        monkeypatch.setenv("DATAMGR_WEB__PORT", str(port))
        assert main.run(["web"]) == UnavailableError.exit_code


def test_the_default_port_gives_way_to_another() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        server.listen("127.0.0.1", taken.getsockname()[1], exact=False) as other,
    ):
        assert other.getsockname() != taken.getsockname()


@pytest.mark.parametrize(
    ("host", "exit_code"),
    [
        ("no.such.host.invalid", UnavailableError.exit_code),
        ("127.0.0.300", UnavailableError.exit_code),
        ("192.0.2.1", InvalidError.exit_code),  # a link is no login for others
        ("0.0.0.0", InvalidError.exit_code),
    ],
)
def test_a_host_that_cannot_be_served_is_one_sentence(
    host: str, exit_code: int, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["web", "--host", host, "--port", "0"]) == exit_code
    said = capsys.readouterr().err
    assert said.startswith("datamgr: ")
    assert host in said
    assert len(said.splitlines()) == 1


def test_connections_wait_for_no_more_to_send() -> None:
    """asyncio sets TCP_NODELAY on sockets of which it knows that they are TCP."""
    with (
        server.listen("127.0.0.1", 0, exact=True) as sock,
        socket.create_connection(sock.getsockname()),
    ):
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP


def test_an_address_of_version_6_is_printed_in_brackets() -> None:
    with server.listen("::1", 0, exact=True) as sock:
        assert server.address(sock) == f"http://[::1]:{sock.getsockname()[1]}"
    assert "[::1]" in auth.allowed_hosts("::1")


def test_listening_on_all_addresses_serves_under_the_machines_name() -> None:
    assert socket.gethostname().lower() in auth.allowed_hosts("0.0.0.0")
    assert "0.0.0.0" not in auth.allowed_hosts("0.0.0.0")


def test_the_token_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(token_file.load_token, [tmp_path / "state"] * 32))
    assert len(tokens) == 1
    assert len(tokens.pop()) == 43  # 32 bytes in base64
    file = tmp_path / "state" / "web-token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["web-token"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    token_file.load_token(tmp_path)
    (tmp_path / "web-token").chmod(mode)
    with pytest.raises(InvalidError, match="may be read by others"):
        token_file.load_token(tmp_path)


@pytest.mark.parametrize("content", ["", "short\n", "\xe4" * 50])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "web-token"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(InvalidError, match="holds no token"):
        token_file.load_token(tmp_path)


def test_a_link_in_the_place_of_the_token_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("k" * 43)
    (tmp_path / "web-token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnavailableError, match="cannot be used"):
        token_file.load_token(tmp_path)


def test_the_token_of_another_account_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file.load_token(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InvalidError, match="belongs to account number"):
        token_file.load_token(tmp_path)
