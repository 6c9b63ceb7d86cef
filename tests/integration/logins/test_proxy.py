"""The account that a proxy names, over a unix socket that knows who connects."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from datamgr.api import auth, peers
from datamgr.api.app import create_app
from datamgr.cli import main
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ConflictError, InvalidError, UnavailableError
from tests import mounts
from tests.accounts import People
from tests.integration.logins.conftest import TOKEN, audited, configured, form_token

pytestmark = [mounts.needs_root, pytest.mark.root]

PUBLIC = "https://data.example.org"


@contextmanager
def proxied(settings: Settings, database: Database, place: Path) -> Iterator[Path]:
    app = create_app(settings, database, auth.of_settings(settings, TOKEN, "127.0.0.1"))
    http = peers.protocol(peers.allowed(settings))
    running = uvicorn.Server(
        uvicorn.Config(app, http=http, log_config=None, access_log=False, lifespan="off", ws="none")
    )
    with peers.listening(place) as sock:
        thread = threading.Thread(target=running.run, args=([sock],))
        thread.start()
        try:
            yield place
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture
def place(settings: Settings, database: Database, people: People, ground: Path) -> Iterator[Path]:
    """The socket of an application behind the proxy of the account `people.member`."""
    changed = configured(
        settings,
        login="proxy",
        public_url=PUBLIC,
        socket=ground / "web.sock",
        proxy_account=people.member,
        proxy_logout_url="/Shibboleth.sso/Logout",
    )
    with proxied(changed, database, ground / "web.sock") as place:
        yield place


class Proxy(httpx.HTTPTransport):
    """Takes TLS off and passes on to the socket."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(scheme="http")
        plain = httpx.Request(request.method, url, headers=request.headers, stream=request.stream)
        return super().handle_request(plain)


@pytest.fixture
def client(place: Path) -> Iterator[httpx.Client]:
    """A browser behind the proxy."""
    with httpx.Client(transport=Proxy(uds=str(place)), base_url=PUBLIC) as client:
        yield client


def test_the_account_that_the_proxy_names_has_a_session(
    client: httpx.Client, people: People, database: Database
) -> None:
    headers = {"X-Remote-User": people.pi, "X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    page = client.get("/", headers=headers)
    assert page.status_code == 200
    assert people.pi in page.text
    assert "Secure" in page.headers["set-cookie"]
    again = client.get("/", headers=headers)
    assert "set-cookie" not in again.headers
    assert audited(database) == [(people.pi, "web.login")]
    form = {"form_token": form_token(again.text)}
    origin = {"Origin": PUBLIC}
    done = client.post("/logout", data=form, headers=headers | origin)
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    left = client.get("/login", headers=headers)
    assert "set-cookie" not in left.headers
    assert "log out there as well" in left.text
    assert 'href="/Shibboleth.sso/Logout"' in left.text
    assert client.get("/", headers=headers).headers["set-cookie"]


def test_nobody_is_let_in_without_the_header(client: httpx.Client, people: People) -> None:
    for headers in ({}, {"X-Remote-User": ""}, {"Authorization": f"Bearer {TOKEN}"}):
        answer = client.get("/", headers=headers)
        assert answer.status_code == 401
        assert "The proxy in front" in answer.text


def test_two_names_no_account_and_root_are_refused(client: httpx.Client, people: People) -> None:
    both = [("X-Remote-User", people.pi), ("X-Remote-User", people.stranger)]
    assert client.get("/", headers=both).status_code == 403
    for name in ("nosuch", "root", "0", "a\\b", f"{people.pi},root"):
        for path in ("/", "/api/v1/scans"):
            assert client.get(path, headers={"X-Remote-User": name}).status_code == 403, name


def test_a_cookie_of_one_account_is_none_of_another(
    client: httpx.Client, people: People, database: Database
) -> None:
    client.get("/", headers={"X-Remote-User": people.pi})
    page = client.get("/", headers={"X-Remote-User": people.stranger})
    assert people.pi not in page.text
    assert audited(database) == [(people.pi, "web.login"), (people.stranger, "web.login")]


def test_programs_are_known_by_the_header_alone(client: httpx.Client, people: People) -> None:
    answer = client.get("/api/v1/scans", headers={"X-Remote-User": people.pi})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    try:
        s.sendall(b"GET / HTTP/1.1\\r\\nHost: data.example.org\\r\\nX-Remote-User: "
                  + sys.argv[2].encode() + b"\\r\\nConnection: close\\r\\n\\r\\n")
        print(s.recv(15).decode())
    except ConnectionError:
        print("turned away")
"""


def test_only_the_proxy_may_connect(place: Path, people: People) -> None:
    """Anybody may write the header, so the kernel is asked who writes."""
    for account, expected in ((people.member, "HTTP/1.1 200 OK"), (people.stranger, "")):
        said = subprocess.run(
            ["/usr/bin/python3", "-c", ASK, str(place), people.pi],
            stdout=subprocess.PIPE,
            text=True,
            user=account,
            group=people.gid,
            extra_groups=[],
            cwd="/",
            check=True,
        ).stdout
        assert said.strip() in ((expected,) if expected else ("", "turned away")), account


def test_the_socket_of_a_killed_server_is_taken_and_another_is_not(ground: Path) -> None:
    place = ground / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    with peers.listening(place):
        assert stat.S_IMODE(place.stat().st_mode) == 0o666
        with pytest.raises(ConflictError), peers.listening(place):
            pass
        assert place.exists()
    assert not place.exists()
    place.write_text("precious")
    with pytest.raises(InvalidError), peers.listening(place):
        pass
    assert place.read_text() == "precious"
    with pytest.raises(UnavailableError), peers.listening(ground / ("l" * 200)):
        pass


@pytest.mark.parametrize(
    ("web", "words"),
    [
        ({"LOGIN": "proxy"}, "needs web.public_url"),
        ({"LOGIN": "proxy", "PUBLIC_URL": PUBLIC}, "needs web.socket and web.proxy_account"),
        ({"LOGIN": "oidc"}, "needs web.public_url"),
        ({"LOGIN": "oidc", "PUBLIC_URL": PUBLIC}, "needs oidc.issuer and oidc.client_id"),
        ({"SOCKET": "/tmp/x"}, "needs web.public_url"),
        ({"PUBLIC_URL": "javascript:alert(1)"}, "web.public_url"),
        ({"PUBLIC_URL": "https://a.example/path"}, "web.public_url"),
        ({"PROXY_LOGOUT_URL": "//evil.example/"}, "web.proxy_logout_url"),
        ({"PROXY_LOGOUT_URL": "javascript:alert(1)"}, "web.proxy_logout_url"),
    ],
)
def test_settings_that_would_let_somebody_in_are_refused(
    web: dict[str, str],
    words: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in web.items():
        monkeypatch.setenv(f"DATAMGR_WEB__{name}", value)
    assert main.run(["web", "--port", "0"]) == InvalidError.exit_code
    assert words in capsys.readouterr().err


def test_the_command_serves_a_unix_socket(
    settings: Settings, people: People, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ground / "web.sock"
    for name, value in {
        "LOGIN": "proxy",
        "PUBLIC_URL": PUBLIC,
        "SOCKET": str(place),
        "PROXY_ACCOUNT": people.member,
    }.items():
        monkeypatch.setenv(f"DATAMGR_WEB__{name}", value)
    argv = [sys.executable, "-m", "datamgr.cli.main", "web"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == PUBLIC
            with httpx.Client(transport=Proxy(uds=str(place)), base_url=PUBLIC) as client:
                assert client.get("/", headers={"X-Remote-User": people.pi}).status_code == 200
            process.terminate()
            assert process.wait(timeout=120) == 0
        finally:
            process.kill()
    assert not place.exists()
