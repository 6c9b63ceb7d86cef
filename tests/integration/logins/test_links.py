"""Links that are good once, the sessions that they begin, and how those end."""

import threading
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from datamgr import identity, sessions
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ForbiddenError
from datamgr.sessions import Origin, WebSession, WebTicket
from tests.integration.logins.conftest import Serve, audited, form_token

ME = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)


def ticket(database: Database, lifetime_s: float = 60) -> str:
    with database.transaction() as session:
        return sessions.issue_ticket(session, sessions.LINK, {"uid": 0}, lifetime_s)


def log_in(browser: httpx.Client, database: Database, address: str) -> httpx.Response:
    return browser.get(f"{address}/login/link", params={"ticket": ticket(database)})


def test_a_link_begins_a_session_with_a_cookie_that_scripts_do_not_see(
    serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address = serve()
    answer = log_in(browser, database, address)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie  # a loopback address has no TLS
    page = browser.get(address + "/")
    assert page.status_code == 200
    (value,) = browser.cookies.values()
    assert value not in page.text
    with database.transaction() as session:
        stored = session.scalars(sa.select(WebSession)).one()
        assert (stored.username, stored.method, stored.client) == ("root", "link", "127.0.0.1")
        assert value.encode() not in stored.token_hash
    assert audited(database) == [("root", "web.login")]


def test_with_tls_in_front_the_cookie_is_for_tls_alone(
    serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address = serve(public_url="https://data.example.org")
    answer = browser.get(
        f"{address}/login/link",
        params={"ticket": ticket(database)},
        headers={"Host": "data.example.org"},
    )
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-datamgr_")
    assert "Secure" in cookie
    assert "max-age" in answer.headers["strict-transport-security"]


def test_processes_behind_one_proxy_share_sessions_forms_and_links(
    serve: Serve, database: Database
) -> None:
    public = "https://data.example.org"
    one, other = (serve(public_url=public) for _ in range(2))
    link = {"ticket": ticket(database)}
    headers = {"Host": "data.example.org", "Origin": public}
    with httpx.Client(headers=headers) as browser:
        answer = browser.get(f"{one}/login/link", params=link)
        assert answer.status_code == 303
        assert browser.get(f"{other}/login/link", params=link).status_code == 403
        # A browser would send it, for to it there is one host with TLS.
        browser.headers["Cookie"] = answer.headers["set-cookie"].partition(";")[0]
        token = form_token(browser.get(f"{other}/").text)
        assert browser.post(f"{one}/logout", data={"form_token": token}).status_code == 303
        assert browser.get(f"{other}/").status_code == 401


def test_a_link_is_refused_the_second_time(
    serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address, link = serve(), ticket(database)
    assert browser.get(f"{address}/login/link?ticket={link}").status_code == 303
    with httpx.Client() as thief:
        again = thief.get(f"{address}/login/link?ticket={link}")
        assert again.status_code == 403
        assert "set-cookie" not in again.headers
        assert "datamgr identity link" in again.text
        assert thief.get(address + "/").status_code == 401


def test_of_many_who_follow_a_link_at_once_one_gets_in(serve: Serve, database: Database) -> None:
    address, link = serve(), ticket(database)
    found: list[int] = []
    start = threading.Barrier(8)

    def follow() -> None:
        start.wait()
        found.append(httpx.get(f"{address}/login/link?ticket={link}").status_code)

    threads = [threading.Thread(target=follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [303] + [403] * 7


def test_a_link_ends_and_is_for_nothing_else(serve: Serve, database: Database) -> None:
    address = serve()
    assert httpx.get(f"{address}/login/link?ticket={ticket(database, -1)}").status_code == 403
    for wrong in ("", "x", "\ufffd", "a" * 5000):
        answer = httpx.get(f"{address}/login/link", params={"ticket": wrong})
        assert answer.status_code in (403, 422)
    with database.transaction() as session:
        other = sessions.issue_ticket(session, sessions.ROUND_TRIP, {"uid": 0}, 60)
        with pytest.raises(ForbiddenError):
            sessions.take_ticket(session, sessions.LINK, other)


def test_a_new_ticket_clears_those_whose_time_is_over(database: Database) -> None:
    ticket(database, -1)
    ticket(database)
    with database.transaction() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(WebTicket)) == 1


def test_logging_out_ends_the_session_and_needs_the_form(
    serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address = serve()
    log_in(browser, database, address)
    token = form_token(browser.get(address + "/").text)
    own = {"Origin": address}
    wrong = [
        ({"form_token": token}, {"Origin": "http://evil.example"}),
        ({"form_token": token}, {"Origin": "null"}),
        ({"form_token": token}, {"Sec-Fetch-Site": "same-site"}),
        ({"form_token": token}, {}),
        ({"form_token": "x" * 64}, own),
        ({"form_token": token.upper()}, own),
        ({"form_token": "ß"}, own),
    ]
    for form, headers in wrong:
        assert browser.post(address + "/logout", data=form, headers=headers).status_code == 403
        assert browser.get(address + "/").status_code == 200
    assert browser.post(address + "/logout", headers=own).status_code in (403, 422)
    stolen = dict(browser.cookies)
    done = browser.post(address + "/logout", data={"form_token": token}, headers=own)
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    assert not browser.cookies
    assert httpx.get(address + "/", cookies=stolen).status_code == 401
    assert audited(database)[-1] == ("root", "web.logout")


def test_the_token_of_one_session_opens_no_form_of_another(
    serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address = serve()
    log_in(browser, database, address)
    with httpx.Client() as other:
        log_in(other, database, address)
        token = form_token(other.get(address + "/").text)
    answer = browser.post(
        address + "/logout", data={"form_token": token}, headers={"Origin": address}
    )
    assert answer.status_code == 403


@pytest.mark.parametrize("column", ["expires_at", "seen_at"])
def test_sessions_end_by_age_and_by_idleness(
    column: str, serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address = serve()
    log_in(browser, database, address)
    assert browser.get(address + "/").status_code == 200
    with database.transaction() as session:
        earlier = getattr(WebSession, column) - timedelta(hours=13)
        session.execute(sa.update(WebSession).values({column: earlier}))
    assert browser.get(address + "/").status_code == 401


def test_a_session_that_is_used_is_seen(
    serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address = serve()
    log_in(browser, database, address)
    with database.transaction() as session:
        earlier = WebSession.seen_at - timedelta(hours=3)
        session.execute(sa.update(WebSession).values(seen_at=earlier))
    browser.get(address + "/")
    with database.transaction() as session:
        idle = session.scalar(sa.select(sa.func.now() - WebSession.seen_at))
    assert idle is not None
    assert idle < timedelta(minutes=5)


def test_a_session_of_an_account_that_is_gone_ends(
    serve: Serve, database: Database, browser: httpx.Client
) -> None:
    """Its number may be somebody else's by now."""
    address = serve()
    log_in(browser, database, address)
    with database.transaction() as session:
        session.execute(sa.update(WebSession).values(username="before"))
    assert browser.get(address + "/").status_code == 401


def test_too_many_logins_are_stopped_for_a_minute(serve: Serve, database: Database) -> None:
    address = serve()
    statuses = [httpx.get(f"{address}/login/link?ticket=x").status_code for _ in range(65)]
    assert statuses == [403] * 60 + [429] * 5
    assert httpx.get(f"{address}/login").status_code == 200


@pytest.mark.parametrize("lengths", ["one", "chunks"])
def test_a_form_that_is_too_long_is_not_read(
    lengths: str, serve: Serve, database: Database, browser: httpx.Client
) -> None:
    address = serve()
    log_in(browser, database, address)
    piece = b"a" * 65_536
    body = piece * 33 if lengths == "one" else (piece for _ in range(33))
    headers = {"Origin": address, "Content-Type": "application/x-www-form-urlencoded"}
    answer = browser.post(address + "/logout", content=body, headers=headers)
    assert answer.status_code == 413
    assert browser.get(address + "/").status_code == 200


def test_only_who_runs_it_has_links(serve: Serve, database: Database) -> None:
    address = serve(login="proxy", public_url="http://127.0.0.1")
    assert httpx.get(f"{address}/login/link?ticket={ticket(database)}").status_code == 422


def test_revoking_ends_what_may_be_ended(database: Database, settings: Settings) -> None:
    ada = identity.Caller("ada", 60_001, frozenset(), identity.Role.USER)
    ben = identity.Caller("ben", 60_002, frozenset(), identity.Role.USER)
    origin = Origin("link", "127.0.0.1", "a browser\0" + "x" * 500)
    with database.transaction() as session:
        numbers = [
            sessions.begin(session, settings, caller, origin)[1] for caller in (ada, ada, ben)
        ]
    with database.transaction() as session:
        seen = sessions.list_sessions(session, settings, ada)
        assert [row["id"] for row in seen] == numbers[:2]
        assert len(seen[0]["agent"]) <= sessions.AGENT_CHARACTERS
        assert len(sessions.list_sessions(session, settings, ME)) == 3
        with pytest.raises(ForbiddenError, match="may not end session"):
            sessions.revoke(session, ada, ids=(numbers[2],))
    with database.transaction() as session:
        assert len(sessions.revoke(session, ME, username="ada")) == 2
        assert sessions.list_sessions(session, settings, ada) == []
    assert audited(database)[-2:] == [("root", "web.revoke")] * 2
