"""`datamgr identity`: who is which account, and whose sessions there are."""

import httpx
import pytest

from datamgr.config import Settings
from datamgr.db import Database
from tests import mounts
from tests.accounts import People
from tests.commands import call
from tests.integration.logins.conftest import Serve, audited
from tests.integration.logins.test_links import log_in

pytestmark = [mounts.needs_root, pytest.mark.root]

ISSUER = "https://idp.example.org"


def test_somebody_is_mapped_listed_and_unmapped(
    settings: Settings, database: Database, people: People, capfd: pytest.CaptureFixture[str]
) -> None:
    row = call(capfd, "identity", "map", ISSUER, "42", people.pi, "--json").json["rows"][0]
    assert (row["issuer"], row["subject"], row["username"]) == (ISSUER, "42", people.pi)
    # Again changes nothing; another account needs an unmap.
    assert call(capfd, "identity", "map", ISSUER, "42", people.pi).exit_code == 0
    assert call(capfd, "identity", "map", ISSUER, "42", people.member).exit_code == 6
    assert call(capfd, "identity", "list", "--account", people.member, "--json").json["rows"] == []
    assert people.pi in call(capfd, "identity", "list").stdout
    assert call(capfd, "identity", "unmap", ISSUER, "42").exit_code == 0
    assert call(capfd, "identity", "unmap", ISSUER, "42").exit_code == 3
    assert audited(database) == [("root", "identity.map"), ("root", "identity.unmap")]


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ((ISSUER, "42", "nosuch"), 3),
        ((ISSUER, "42", "root"), 4),
        (("idp.example.org", "42", "PI"), 4),
        ((ISSUER, " ", "PI"), 4),
        ((ISSUER, "a\nb", "PI"), 4),
        ((ISSUER, "s" * 256, "PI"), 4),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    arguments: tuple[str, ...],
    exit_code: int,
    settings: Settings,
    people: People,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = [people.pi if word == "PI" else word for word in arguments]
    assert call(capfd, "identity", "map", *words).exit_code == exit_code


def test_sessions_are_listed_and_revoked(
    serve: Serve,
    settings: Settings,
    database: Database,
    browser: httpx.Client,
    capfd: pytest.CaptureFixture[str],
) -> None:
    address = serve()
    log_in(browser, database, address)
    (row,) = call(capfd, "identity", "sessions", "--json").json["rows"]
    assert (row["username"], row["method"], row["client"]) == ("root", "link", "127.0.0.1")
    assert "httpx" in row["agent"]
    assert "127.0.0.1" in call(capfd, "identity", "sessions").stdout
    assert call(capfd, "identity", "revoke").exit_code == 2
    assert call(capfd, "identity", "revoke", str(row["id"] + 1)).exit_code == 3
    page = browser.get(address + "/")
    assert page.status_code == 200
    asked = {"If-None-Match": page.headers["etag"]}
    assert browser.get(address + "/", headers=asked).status_code == 304
    assert call(capfd, "identity", "revoke", str(row["id"])).exit_code == 0
    # Not from the memory of pages, either.
    assert browser.get(address + "/").status_code == 401
    assert browser.get(address + "/", headers=asked).status_code == 401
    assert call(capfd, "identity", "revoke", "--account", "root", "--json").json["rows"] == []


def test_there_is_no_link_where_nothing_runs(
    settings: Settings, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(capfd, "identity", "link").exit_code == 3
    monkeypatch.setenv("DATAMGR_WEB__LOGIN", "proxy")
    assert call(capfd, "identity", "link").exit_code == 4
