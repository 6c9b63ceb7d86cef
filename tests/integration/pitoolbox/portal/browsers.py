"""Browsers of accounts that are logged in, what they ask for, and what they are shown."""

import html
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from datamgr import display, sessions, tasks
from datamgr.api import auth
from datamgr.api.app import create_app
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.identity import Caller
from datamgr.sessions import Origin
from datamgr.tasks import Task
from tests import served
from tests.accounts import People

TOKEN = "k" * 43
Form = dict[str, str | list[str]]
HOSTILE = [
    b"<img src=x onerror=alert(1)>",
    b'=HYPERLINK("evil.example";"x")',
    b"\"quoted\" 'and' `ticked`",
    b"turned\xe2\x80\xaegpj.exe",
    b"two\nlines\rand\ttabs",
    b"no utf8 \xff\xfe",
    b"%2e%2e%2f&a=b#c?d",
    b"--help",
    b"l" * 255,
]


@contextmanager
def serving(settings: Settings, database: Database) -> Iterator[str]:
    """The address of the application."""
    app = create_app(settings, database, auth.of_settings(settings, TOKEN, "127.0.0.1"))
    with served.serving(app) as address:
        yield address


class Browser(httpx.Client):
    """Somebody with a session, who fills in forms as they are on the page."""

    def __init__(self, address: str, settings: Settings, database: Database, who: Caller) -> None:
        with database.transaction() as session:
            origin = Origin("link", "127.0.0.1", "test")
            token, _ = sessions.begin(session, settings, who, origin)
        super().__init__(base_url=address, headers={"Origin": address}, timeout=60)
        self.cookies.set(auth.of_settings(settings, TOKEN, "127.0.0.1").cookie, token)
        self.form_token = sessions.form_token(token)

    def send_form(self, path: str, form: Form | None = None) -> httpx.Response:
        """As a browser does, without following."""
        return self.post(path, data={"form_token": self.form_token, **(form or {})})

    def asked(self, path: str, form: Form | None = None) -> int:
        """The number of the request that a form led to."""
        answer = self.send_form(path, form)
        assert answer.status_code == 303, answer.text
        return int(answer.headers["location"].rpartition("/")[2])


LogIn = Callable[[str], Browser]


def ticks(page: str) -> dict[str, str]:
    """The boxes of a listing by what they select."""
    found = re.findall(r'name="names" value="([^"]*)" aria-label="Select ([^"]*)"', page)
    return {html.unescape(label): value for value, label in found}


def chgrp(people: People, *names: str, at: bytes = b"data") -> Form:
    return {
        "project": "cosmo",
        "at": display.to_address(at),
        "names": list(names),
        "kind": "chgrp",
        "group": people.group,
        "recursive": "true",
    }


def ended(database: Database, number: int) -> Task:
    for _ in range(600):
        with database.transaction() as session:
            found = tasks.get(session, number)
            if found.is_finished:
                return found
        time.sleep(0.1)
    raise AssertionError(f"request {number} does not end")


def events(browser: Browser, number: int) -> list[tuple[str, Any]]:
    """All events until the stream ends by itself."""
    found, name = [], ""
    with browser.stream("GET", f"/perms/requests/{number}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def group_of(path: Path | bytes) -> int:
    return os.lstat(path).st_gid
