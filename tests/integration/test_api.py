"""The API and the pages over a real scan in a real PostgreSQL."""

import base64
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from datamgr import catalog, identity
from datamgr.api.app import create_app
from datamgr.api.auth import Access, allowed_hosts
from datamgr.api.deps import ReadSession
from datamgr.api.guard import SECURITY_HEADERS
from datamgr.catalog import ProjectChange
from datamgr.cli import main
from datamgr.config import Settings
from datamgr.db import Database, make_engine
from scanners import queries, scan
from tests.served import serving

TOKEN = "k" * 43
HOSTILE = b"bad\xff\n<script>alert(1)<script>\xe2\x80\xaetxt.exe"
MIB = 1 << 20
DAY_S = 86_400


def write(path: bytes, size_bytes: int, age_d: float = 0) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with Path(os.fsdecode(path)).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    when = time.time() - age_d * DAY_S
    os.utime(path, (when, when))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two projects, cosmo of 4 MiB and lux of 1 MiB, with names as they occur in the wild."""
    root = tmp_path / "cfs"
    base = os.fsencode(root)
    write(base + b"/cosmo/runs/snap_001.hdf5", 3 * MIB, age_d=800)
    write(base + b"/cosmo/runs/" + HOSTILE, 1 * MIB, age_d=40)
    write(base + b"/lux/raw/run1.h5", 1 * MIB)
    return root


@pytest.fixture
def scanned(settings: Settings, database: Database, tree: Path) -> Path:
    """The tree, scanned once."""
    scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(tree)], workers=1))
    return tree


@pytest.fixture
def app(settings: Settings, database: Database) -> FastAPI:
    return create_app(settings, database, Access(TOKEN))


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    with serving(app) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """Somebody with the token."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=address, headers=headers) as client:
        yield client


@pytest.fixture
def stranger(address: str) -> Iterator[httpx.Client]:
    """Somebody who has been told nothing."""
    with httpx.Client(base_url=address) as client:
        yield client


def add_project(database: Database, name: str, path: Path, **quotas: int) -> None:
    root = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
    change = ProjectChange(path=os.fsencode(path), **quotas)  # type: ignore[arg-type]
    with database.transaction() as session:
        catalog.add_project(session, root, name, change)


def text_of(html: str) -> str:
    """The words of a page, without its tags, with single spaces."""
    words = re.sub(r"<[^>]*>", " ", re.sub(r"</?(bdi|wbr)>", "", html))
    return re.sub(r"\s+", " ", words)


# The questions, and the command that asks the same.
QUESTIONS: list[tuple[str, list[str]]] = [
    ("scans", ["scan", "list"]),
    ("usage/projects", ["usage"]),
    ("usage/projects?project=cosmo", ["usage", "cosmo"]),
    ("usage/projects?filesystem=cfs", ["usage", "--filesystem", "cfs"]),
    ("usage/owners?by=user", ["usage", "--by", "user"]),
    ("usage/owners?by=group&project=lux", ["usage", "lux", "--by", "group"]),
    ("usage/top?what=files", ["usage", "top", "--files"]),
    ("usage/top?what=dirs&number=2", ["usage", "top", "--dirs", "2"]),
    ("usage/top?user=0&project=cosmo", ["usage", "top", "--user", "0", "--project", "cosmo"]),
    ("usage/directory?path={tree}/cosmo", ["usage", "dir", "{tree}/cosmo"]),
    ("usage/ages", ["usage", "age"]),
    ("usage/ages?basis=atime&project=lux", ["usage", "age", "--basis", "atime", "--project=lux"]),
    ("usage/growth", ["usage", "growth"]),
    ("usage/growth?by=directory&number=1", ["usage", "growth", "--by", "directory", "-n", "1"]),
    ("usage/growth?since=2020-01-01", ["usage", "growth", "--since", "2020-01-01"]),
]


def test_an_answer_is_what_the_command_prints(
    settings: Settings,
    database: Database,
    scanned: Path,
    client: httpx.Client,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(os.fsencode(scanned) + b"/lux/raw/run2.h5", 2 * MIB)
    scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(scanned)], workers=1))
    for question, command in QUESTIONS:
        argv = [word.format(tree=scanned) for word in command]
        assert main.run([*argv, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)

        answer = client.get("/api/v1/" + question.format(tree=scanned))

        assert answer.status_code == 200, question
        assert answer.json() == printed, question
        assert printed["rows"], question


def test_a_path_that_is_no_utf8_comes_and_goes_as_base64(
    client: httpx.Client, settings: Settings, database: Database, tree: Path
) -> None:
    path = os.fsencode(tree) + b"/cosmo/" + HOSTILE.replace(b"/", b"")
    write(path + b"/file", MIB)
    scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(tree)], workers=1))

    top = client.get("/api/v1/usage/top", params={"what": "dirs", "number": 100}).json()["rows"]
    encoded = next(row["path_b64"] for row in top if "path_b64" in row)
    assert base64.b64decode(encoded) == path
    found = client.get("/api/v1/usage/directory", params={"path_b64": encoded}).json()
    assert found["directory"]["path_b64"] == encoded
    assert found["directory"]["files"] == 1


def test_a_question_without_answer_is_a_problem(scanned: Path, client: httpx.Client) -> None:
    for question, status, words in [
        ("usage/projects?project=nosuch", 404, "there is no project 'nosuch'"),
        ("usage/top?user=nosuch", 404, "there is no account 'nosuch'"),
        ("usage/directory?path=/nosuch", 404, "/nosuch is no directory"),
        ("usage/growth", 404, "growth needs two scans"),
        ("nosuch", 404, "There is nothing at this address."),
        ("usage/directory?path=relative", 422, "must be absolute"),
        ("usage/directory", 422, "either path or path_b64"),
        ("usage/directory?path_b64=%25", 422, "path_b64 is no base64"),
        ("usage/top?number=0", 422, "number: Input should be greater than or equal to 1"),
        ("usage/top?what=bogus", 422, "what: Input should be 'files' or 'dirs'"),
        ("usage/projects?project=a%00b", 422, "project: String should match"),
        ("usage/top?user=99999999999999999999", 404, "there is no account"),
    ]:
        answer = client.get("/api/v1/" + question)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (answer.status_code, problem["status"]) == (status, status)
        assert words in problem["detail"]
        assert problem.keys() == {"type", "title", "status", "detail"}


def test_no_scan_at_all_is_a_problem_for_programs_and_a_hint_for_people(
    client: httpx.Client,
) -> None:
    assert client.get("/api/v1/usage/projects").status_code == 404
    page = client.get("/")
    assert page.status_code == 200
    assert "datamgr scan run PATH --name NAME" in page.text


@pytest.mark.parametrize(
    "attempt",
    [
        {},
        {"headers": {"Authorization": "Bearer wrong"}},
        {"headers": {"Authorization": f"Basic {TOKEN}"}},
        {"headers": {"Authorization": "Bearer " + "\xff" * 43}},
        {"params": {"token": TOKEN}},
        {"cookies": {"datamgr_token": TOKEN}},
    ],
)
def test_nothing_is_told_without_the_token(
    attempt: dict[str, dict[str, str]], stranger: httpx.Client
) -> None:
    stranger.cookies.update(attempt.get("cookies", {}))
    headers = {k: v.encode("latin-1") for k, v in attempt.get("headers", {}).items()}
    for path in ("/", "/api/v1/scans", "/api/openapi.json", "/nosuch"):
        answer = stranger.get(path, params=attempt.get("params", {}), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "set-cookie" not in answer.headers
        assert "datamgr web" in answer.text
        is_api = path.startswith("/api/")
        expected = "application/problem+json" if is_api else "text/html; charset=utf-8"
        assert answer.headers["content-type"] == expected


def test_installations_on_one_host_have_cookies_of_their_own() -> None:
    assert Access("a" * 43).cookie != Access("b" * 43).cookie


def test_only_known_host_names_are_served(client: httpx.Client, scanned: Path) -> None:
    for host, status in [
        ("127.0.0.1:8765", 200),
        ("LOCALHOST", 200),
        ("[::1]:8765", 200),
        ("[::1]", 200),
        ("evil.example", 400),
        ("evil.example:8765", 400),
        ("127.0.0.1.evil.example", 400),
        ("127.0.0.1:8765.evil.example", 400),
        ("", 400),
    ]:
        answer = client.get("/", headers={"Host": host})
        assert answer.status_code == status, host


def test_the_configured_host_is_known(settings: Settings, database: Database) -> None:
    access = Access(TOKEN, allowed_hosts("data.example.org"))
    with serving(create_app(settings, database, access)) as address:
        for host, status in (("data.example.org:80", 200), ("elsewhere.example.org", 400)):
            headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
            answer = httpx.get(f"{address}/", headers=headers)
            assert answer.status_code == status


def test_every_answer_carries_the_security_headers(
    client: httpx.Client,
    stranger: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(session: object) -> None:
        raise RuntimeError("a secret of the inside")

    style = re.findall(r'href="(/static/\w+/dashboard.css)"', client.get("/").text)[0]
    answers = [client.get(p) for p in ("/", "/api/v1/scans", style, "/nosuch", "/?sort=bogus")]
    answers += [stranger.get("/"), client.post("/"), client.get("/", headers={"Host": "x"})]
    monkeypatch.setattr(queries, "scans", broken)
    with caplog.at_level(logging.CRITICAL):
        answers += [client.get("/?find=more"), client.get("/api/v1/scans")]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 200, 200, 404, 422, 401, 405, 400, 500, 500]
    for answer in answers:
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        assert "secret of the inside" not in answer.text
        kept = {style: "public, max-age=31536000, immutable"}
        if answer is answers[0]:
            kept["/"] = "private, no-cache"
        assert answer.headers["cache-control"] == kept.get(answer.request.url.path, "no-store")


def test_style_sheets_are_for_everybody_and_nothing_else_is_there(stranger: httpx.Client) -> None:
    page = stranger.get("/")
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
    assert {Path(file).name for file in files} == {"dashboard.css", "dashboard.js", "icon.svg"}
    for file in files:
        assert stranger.get(file).status_code == 200
    for wrong in ("nosuch.css", "..%2fpages.py", "%2e%2e/pages.py", "../templates/base.html"):
        assert stranger.get(f"/static/x/{wrong}").status_code in (401, 404)
    old = stranger.get("/static/before/dashboard.css")
    assert old.headers["cache-control"] == "no-cache"


def test_no_page_of_documentation_loads_from_elsewhere(client: httpx.Client) -> None:
    assert client.get("/docs").status_code == 404
    assert client.get("/redoc").status_code == 404
    schema = client.get("/api/openapi.json").json()
    assert "/api/v1/usage/projects" in schema["paths"]
    assert "/" not in schema["paths"]


@pytest.mark.parametrize("path", ["/", "/api/v1/scans"])
def test_a_database_that_is_away_is_503(
    path: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    away = Database(make_engine(sa.make_url("postgresql+psycopg2://nobody@127.0.0.1:1/none"), 2))
    with serving(create_app(settings, away, Access(TOKEN))) as address:
        answer = httpx.get(address + path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 503
    assert "the database does not answer" in answer.text
    assert "nobody" not in answer.text


def test_a_connection_that_breaks_during_a_request_is_503(
    client: httpx.Client, database: Database, scanned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really: Callable[..., list[queries.Row]] = queries.projects

    def cut_off(session: sa.orm.Session, *rest: Any) -> list[queries.Row]:
        pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
        with database.engine.connect() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        return really(session, *rest)

    monkeypatch.setattr(queries, "projects", cut_off)
    assert client.get("/").status_code == 503
    assert client.get("/api/v1/usage/projects").status_code == 503
    monkeypatch.undo()
    assert client.get("/").status_code == 200


def test_a_request_reads_one_state_and_writes_nothing(app: FastAPI, client: httpx.Client) -> None:
    @app.get("/api/probe")
    def probe(session: ReadSession) -> list[str]:
        names = ("transaction_read_only", "transaction_isolation")
        return [str(session.scalar(sa.text(f"SHOW {name}"))) for name in names]

    assert client.get("/api/probe").json() == ["on", "repeatable read"]


def test_the_page_says_what_uses_how_much(
    client: httpx.Client, settings: Settings, database: Database, tree: Path
) -> None:
    """4 MiB and the directories' own blocks are more than 100 % of 3 MiB."""
    add_project(database, "cosmo", tree / "cosmo", quota_bytes=3 * MIB, quota_inodes=8)
    add_project(database, "lux", tree / "lux")
    scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(tree)], workers=1))
    cosmo = client.get("/api/v1/usage/projects?project=cosmo").json()["rows"][0]
    assert cosmo["inodes"] == 4

    page = client.get("/").text

    words = text_of(page)
    assert f"{cosmo['bytes_percent']:.0f} %" in words
    assert cosmo["bytes_percent"] > 130
    assert "of 3.0 MiB" in words
    assert "4 of 8 50 %" in words
    assert "over quota" in words
    assert "1 of 1 with a quota" in words
    assert "scanned just now" in words
    assert "everything counted" in words
    assert 'class="bar over"' in page
    assert page.count('class="cap"') == 1
    assert "one scan so far needs 4 scans" in words
    assert "style=" not in page
    assert "<script>" not in page

    page = client.get("/usage").text
    words = text_of(page)
    assert "/cosmo/runs/snap_001.hdf5" in words
    assert 'class="bar age-6"' in page  # 800 days
    assert 'class="bar age-2"' in page  # 40 days
    assert "2.2 years" in words
    assert "There is one scan so far." in words
    assert "style=" not in page
    assert "<script>" not in page


def test_one_project_is_shown_alone(client: httpx.Client, scanned: Path) -> None:
    words = text_of(client.get("/usage?project=lux").text)
    assert "Project lux" in words
    assert "run1.h5" in words
    assert "cosmo" not in words
    missing = client.get("/usage?project=nosuch")
    assert missing.status_code == 404
    assert "there is no project" in missing.text


def test_links_keep_what_was_chosen(client: httpx.Client, scanned: Path) -> None:
    page = client.get("/usage?project=lux&basis=ctime&top=50").text
    links = re.findall(r'href="(/usage\?[^"]*)"', page)
    assert "/usage?project=lux&amp;basis=atime&amp;top=50#age" in links
    assert "/usage?project=lux&amp;basis=ctime&amp;top=20#age" in links


def test_ages_follow_the_chosen_time(client: httpx.Client, scanned: Path) -> None:
    """Everything was made a moment ago, whatever time of modification it was given."""
    by_content = text_of(client.get("/usage").text)
    assert "over 2 years 3.0 MiB 60 % 1 " in by_content  # of 5 MiB
    by_change = text_of(client.get("/usage?basis=ctime").text)
    assert "over 2 years 0 B 0.0 % 0 " in by_change


def test_growth_appears_with_the_second_scan(
    client: httpx.Client, settings: Settings, database: Database, scanned: Path
) -> None:
    write(os.fsencode(scanned) + b"/lux/raw/run2.h5", 2 * MIB)
    (scanned / "cosmo/runs/snap_001.hdf5").unlink()
    scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(scanned)], workers=1))
    words = text_of(client.get("/usage?directories=true").text)
    assert "+2.0 MiB +1" in words
    assert "−3.0 MiB −1" in words
    assert f"{scanned}/lux/raw +2.0 MiB" in words


def test_hostile_names_are_harmless(
    client: httpx.Client, settings: Settings, database: Database, tree: Path
) -> None:
    evil = "<img src=x onerror=alert(1)>&\u202e"
    (tree / evil).mkdir()
    scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(tree)], workers=1))
    page = client.get("/").text
    assert "\u202e" not in page
    link = re.findall(r'href="(/usage\?filesystem=cfs&amp;project=%3Cimg[^"]*)"', page)[0]
    assert client.get(link.replace("&amp;", "&")).status_code == 200
    page += client.get("/usage").text
    assert "\\xff\\n&lt;script&gt;alert(1)&lt;/<wbr>" not in page  # a name has no slash
    assert "bad\\xff\\n&lt;script&gt;alert(1)" in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "\\u202e" in page
