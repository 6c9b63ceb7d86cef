"""Logins at a real provider on the loopback address, and answers that must not be believed."""

import html
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from datamgr import external_ids, identity
from datamgr.api import login, oidc
from datamgr.config_web import OidcSettings
from datamgr.db import Database
from datamgr.errors import ForbiddenError, InvalidError
from datamgr.sessions import WebTicket
from tests import mounts, served
from tests.accounts import People
from tests.integration.logins.conftest import Serve, audited, form_token

ROOT = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
SUBJECT = "http://example.org/users/42"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with served.provider() as address:
        yield address


@pytest.fixture
def section(issuer: str) -> OidcSettings:
    return OidcSettings(
        issuer=issuer, client_id="datamgr", client_secret="secret", name="the centre's login"
    )


@pytest.fixture
def address(serve: Serve, section: OidcSettings) -> str:
    return serve(section, login="oidc")


def map_subject(database: Database, issuer: str, username: str, subject: str = SUBJECT) -> None:
    with database.transaction() as session:
        external_ids.map_to(session, ROOT, issuer, subject, username)


def at_provider(browser: httpx.Client, address: str, then: str = "/") -> httpx.Response:
    """What the provider's page of logins says when SUBJECT logs in there: the way back."""
    asked = browser.get(f"{address}/login/oidc", params={"then": then})
    assert asked.status_code == 303
    return browser.post(asked.headers["location"], data={"sub": SUBJECT})


@pytest.mark.root
@mounts.needs_root
def test_who_is_mapped_is_logged_in_as_the_account(
    browser: httpx.Client, address: str, issuer: str, database: Database, people: People
) -> None:
    map_subject(database, issuer, people.pi)
    first = browser.get(f"{address}/?sort=name")
    assert first.status_code == 401
    (link,) = re.findall(r'href="(/login/oidc[^"]*)"', first.text)
    assert parse_qs(urlsplit(link).query) == {"then": ["/?sort=name"]}
    back = at_provider(browser, address, "/?sort=name").headers["location"]
    assert back.startswith(f"{address}/login/callback?")
    done = browser.get(back)
    assert (done.status_code, done.headers["location"]) == (303, "/?sort=name")
    assert people.pi in browser.get(address + "/").text
    assert audited(database) == [("root", "identity.map"), (people.pi, "web.login")]
    # The way back is good once.
    assert browser.get(back).status_code == 403


def test_the_question_has_pkce_state_and_nonce(browser: httpx.Client, address: str) -> None:
    asked = browser.get(f"{address}/login/oidc").headers["location"]
    query = parse_qs(urlsplit(asked).query, keep_blank_values=True)
    assert {len(values) for values in query.values()} == {1}
    told = {name: values[0] for name, values in query.items()}
    assert told["response_type"] == "code"
    assert told["code_challenge_method"] == "S256"
    assert len(told["code_challenge"]) == 43
    assert len(told["state"]) >= 43
    assert len(told["nonce"]) >= 43
    assert told["redirect_uri"] == f"{address}/login/callback"
    again = browser.get(f"{address}/login/oidc").headers["location"]
    other = {name: values[0] for name, values in parse_qs(urlsplit(again).query).items()}
    for name in ("state", "nonce", "code_challenge"):
        assert other[name] != told[name]


def test_who_is_not_mapped_is_told_what_staff_need(browser: httpx.Client, address: str) -> None:
    answer = browser.get(at_provider(browser, address).headers["location"])
    assert answer.status_code == 403
    assert "datamgr identity map" in answer.text
    assert SUBJECT in answer.text
    assert browser.get(address + "/").status_code == 401


def test_a_login_begun_elsewhere_is_not_ended_here(
    browser: httpx.Client, address: str, issuer: str, database: Database
) -> None:
    """Else somebody could be logged in as whoever sent them the link."""
    back = at_provider(browser, address).headers["location"]
    with httpx.Client() as victim:
        assert victim.get(back).status_code == 403
        victim.get(f"{address}/login/oidc")
        assert victim.get(back).status_code == 403
        assert victim.get(address + "/").status_code == 401


@pytest.mark.parametrize(
    "query", ["", "?state=", "?state=x&code=y", "?error=access_denied", "?code=y"]
)
def test_what_is_no_answer_is_refused(browser: httpx.Client, address: str, query: str) -> None:
    assert browser.get(f"{address}/login/callback{query}").status_code == 403


def test_a_code_of_nobody_and_a_refusal_are_refused(browser: httpx.Client, address: str) -> None:
    for rest in ("code=guessed", "error=access_denied%0AWARNING", "code=x&iss=http://evil.example"):
        browser.get(f"{address}/login/oidc")
        (state,) = [v for k, v in browser.cookies.items() if k.endswith("_login")]
        answer = browser.get(f"{address}/login/callback?state={state}&{rest}")
        assert answer.status_code == 403, rest


def test_a_provider_that_is_away_is_503(serve: Serve, browser: httpx.Client) -> None:
    away = OidcSettings(issuer="http://127.0.0.1:1", client_id="datamgr")
    assert browser.get(f"{serve(away, login='oidc')}/login/oidc").status_code == 503


def test_a_provider_that_calls_itself_otherwise_is_503(
    serve: Serve, browser: httpx.Client, issuer: str
) -> None:
    other = OidcSettings(issuer=f"{issuer}/", client_id="datamgr")
    assert browser.get(f"{serve(other, login='oidc')}/login/oidc").status_code == 503


@pytest.mark.parametrize("issuer", ["http://idp.example.org", None])
def test_a_provider_without_tls_is_refused(issuer: str | None) -> None:
    with pytest.raises(InvalidError):
        oidc.Provider(OidcSettings(issuer=issuer, client_id="datamgr"))


KEY = RSAKey.generate_key(2048, {"kid": "one"})
OTHER = RSAKey.generate_key(2048, {"kid": "one"})
ISSUER, CLIENT, NONCE = "https://idp.example.org", "datamgr", "n" * 43
NO_ALGORITHM = "eyJhbGciOiJub25lIn0"  # {"alg":"none"} as base64url
Change = Callable[[dict[str, Any]], object]


def claims() -> dict[str, Any]:
    now = int(time.time())
    told = {"iss": ISSUER, "aud": CLIENT, "sub": "42", "nonce": NONCE}
    return told | {"exp": now + 300, "iat": now}


def verify(token: str) -> str:
    return oidc.verified_subject(token, KeySet([KEY]), ISSUER, CLIENT, NONCE)


def test_a_token_of_the_provider_is_believed() -> None:
    header = {"alg": "RS256", "kid": "one"}
    assert verify(jwt.encode(header, claims(), KEY)) == "42"
    several = claims() | {"aud": [CLIENT, "another"], "azp": CLIENT}
    assert verify(jwt.encode(header, several, KEY)) == "42"


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": [CLIENT, "another"]},
        {"azp": "another"},
        {"nonce": "m" * 43},
        {"nonce": None},
        {"sub": None},
        {"sub": 42},
        {"sub": ""},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_000_000_000},
    ],
)
def test_a_token_that_is_not_for_this_question_is_not_believed(change: dict[str, Any]) -> None:
    told = {name: value for name, value in (claims() | change).items() if value is not None}
    with pytest.raises(ForbiddenError):
        verify(jwt.encode({"alg": "RS256", "kid": "one"}, told, KEY))


def test_a_token_that_is_not_signed_by_the_provider_is_not_believed() -> None:
    good = jwt.encode({"alg": "RS256", "kid": "one"}, claims(), KEY)
    head, body, signature = good.split(".")
    # Known to every client of the provider, and to whoever reads it from one of them.
    shared = OctKey.import_key("a secret that both of them know of")
    forged = [
        jwt.encode({"alg": "RS256", "kid": "one"}, claims(), OTHER),
        jwt.encode({"alg": "HS256", "kid": "one"}, claims(), shared, algorithms=["HS256"]),
        f"{NO_ALGORITHM}.{body}.",
        f"{head}.{body}.",
        f"{head}.{body}x.{signature}",
        "",
        "x",
    ]
    for token in forged:
        with pytest.raises(ForbiddenError):
            verify(token)


@pytest.mark.parametrize(
    "then",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil",
        "evil",
        "",
        "/\r\nX: y",
    ],
)
def test_nobody_is_sent_elsewhere_after_a_login(then: str) -> None:
    assert login.local_path(then) == "/"
    assert login.local_path("/usage?project=a") == "/usage?project=a"


def log_out(browser: httpx.Client, address: str) -> httpx.Response:
    token = form_token(browser.get(address + "/").text)
    return browser.post(
        f"{address}/logout", data={"form_token": token}, headers={"Origin": address}
    )


@pytest.mark.root
@mounts.needs_root
def test_who_logs_out_is_logged_out_at_the_provider(
    browser: httpx.Client, address: str, issuer: str, database: Database, people: People
) -> None:
    map_subject(database, issuer, people.pi)
    browser.get(at_provider(browser, address).headers["location"])
    answer = log_out(browser, address)
    assert answer.status_code == 200
    assert people.pi not in answer.text
    (url,) = re.findall(r'http-equiv="refresh" content="0; url=([^"]*)"', answer.text)
    place, _, query = html.unescape(url).partition("?")
    metadata = httpx.get(f"{issuer}/.well-known/openid-configuration").json()
    assert place == metadata["end_session_endpoint"]
    told = {name: values[0] for name, values in parse_qs(query).items()}
    assert told["client_id"] == "datamgr"
    keys = KeySet.import_key_set(httpx.get(metadata["jwks_uri"]).json())
    assert jwt.decode(told["id_token_hint"], keys).claims["sub"] == SUBJECT
    assert told["post_logout_redirect_uri"] == f"{address}/login"
    # The provider asks, and sends the browser back.
    asked = browser.get(html.unescape(url))
    (target,) = re.findall(r'<form method="post" action="([^"]*)"', asked.text)
    back = browser.post(issuer + target, data={"redirect_uri": f"{address}/login"})
    assert back.headers["location"] == f"{address}/login"
    assert browser.get(address + "/").status_code == 401
    with database.transaction() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(WebTicket)) == 0


@pytest.mark.root
@mounts.needs_root
def test_who_logs_out_stays_logged_in_there_if_the_site_wants_it(
    serve: Serve,
    browser: httpx.Client,
    section: OidcSettings,
    issuer: str,
    database: Database,
    people: People,
) -> None:
    address = serve(section.model_copy(update={"logout": False}), login="oidc")
    map_subject(database, issuer, people.pi)
    browser.get(at_provider(browser, address).headers["location"])
    answer = log_out(browser, address)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_a_provider_that_ends_no_logins_or_is_away_keeps_nobody_from_logging_out() -> None:
    app = FastAPI()
    app.state.stopping = threading.Event()
    with served.serving(app) as issuer:
        app.get("/.well-known/openid-configuration")(lambda: {"issuer": issuer})
        provider = oidc.Provider(OidcSettings(issuer=issuer, client_id="datamgr"))
        assert provider.logout_url("token", "http://localhost/login") is None
    away = oidc.Provider(OidcSettings(issuer="http://127.0.0.1:1", client_id="datamgr"))
    assert away.logout_url("token", "http://localhost/login") is None
