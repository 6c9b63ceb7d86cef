"""The requester gets one mail when a request has ended, over a real mail server."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from datamgr import claims, tasks, units
from datamgr.config import Settings
from datamgr.config_nightly import AlertSettings
from datamgr.config_pitoolbox import PitoolboxSettings
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.errors import InvalidError
from datamgr.identity import Caller, Role
from datamgr.tasks import State
from datamgr.worker import Handler, TaskContext, Worker
from pitoolbox import notify
from pitoolbox.requests import KIND, Action, ActionKind, Request
from tests import mailboxes
from tests.mailboxes import Mailbox

ADA = Caller("ada", 5001, frozenset({100}), Role.USER)
CHGRP = Action(ActionKind.CHGRP, group="data")
REQUEST = Request("cosmo", CHGRP, (b".",), notify=True)
RESULT = {
    "seen": 12345, "changed": 7, "unchanged": 12336, "skipped": 1, "failed": 1, "vanished": 0,
    "changes": {"group": 7}, "kinds": {"f": 6, "d": 1},
    "reasons": {"it has hard links": 1, "out of\nspace": 1}, "sample": [], "issue_sample": [],
}  # fmt: skip

Run = Callable[..., str]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mailboxes.serving() as box:
        yield box


@pytest.fixture
def run(settings: Settings, database: Database, mailbox: Mailbox) -> Run:
    """Run one request whose handler does what is given; the state in which it ended."""

    def run_one(
        handler: Handler, request: Request = REQUEST, caller: Caller = ADA, **changes: Any
    ) -> str:
        alerts = AlertSettings(smtp=changes.pop("smtp", mailbox.address), timeout_s=5)
        section = PitoolboxSettings(mail_domain="example.org", **changes)
        used = settings.model_copy(update={"alerts": alerts, "pitoolbox": section})
        with database.transaction() as session:
            task = tasks.submit(session, caller, KIND, request.key, request.to_params())
        told = partial(notify.ended, used)
        worker = Worker(used, database, [KIND], {KIND: handler}, fair=True, on_end=told)
        stop = Stop()
        try:
            worker.drain(stop)
        finally:
            worker.close()
            stop.close()
        with database.transaction() as session:
            return tasks.get(session, task.id).state

    return run_one


def partly(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    return claims.Partial(RESULT)


def wholly(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    return RESULT | {"skipped": 0, "failed": 0, "reasons": {}}


def refuse(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    raise InvalidError("group data is none of project cosmo")


def test_a_mail_says_what_was_done_what_was_not_and_where_to_look(
    run: Run, mailbox: Mailbox
) -> None:
    assert run(partly) == State.PARTIAL
    [(receivers, message)] = mailbox.messages
    assert receivers == ["ada@example.org"]
    assert message["To"] == "ada@example.org"
    assert message["Subject"] == (
        "[datamgr] Request 1 (chgrp data, project cosmo): done, but not for all entries"
    )
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"] == "<perms-1@datamgr>"
    lines = message.get_content().replace("\r\n", "\n").splitlines()
    assert f"{units.format_count(12345):>15} entries seen" in lines
    assert "              7 changed (1 directories, 6 files, 7 groups)" in lines
    assert r"              1   out of\nspace" in lines
    assert lines[-3:] == [
        "Everything about it:   datamgr perms show 1",
        "What was left alone:   datamgr perms errors 1",
        "To take it back:       datamgr perms undo 1",
    ]


def test_a_request_that_failed_is_told_with_its_reason(run: Run, mailbox: Mailbox) -> None:
    assert run(refuse) == State.FAILED
    [(_, message)] = mailbox.messages
    assert str(message["Subject"]).endswith("(chgrp data, project cosmo): failed")
    assert "group data is none of project cosmo." in message.get_content()


def test_whoever_did_not_ask_for_mail_gets_none(run: Run, mailbox: Mailbox) -> None:
    assert run(wholly, replace(REQUEST, notify=False)) == State.SUCCEEDED
    assert mailbox.messages == []


def test_addresses_that_differ_are_configured(run: Run, mailbox: Mailbox) -> None:
    run(wholly, mail_addresses={"ada": "Ada.Lovelace@physics.example.org"})
    [(receivers, _)] = mailbox.messages
    assert receivers == ["Ada.Lovelace@physics.example.org"]


@pytest.mark.parametrize(
    ("smtp", "username"),
    [
        ("127.0.0.1:1", "ada"),  # the server is away
        (None, "nobody"),  # it refuses
        (None, "a b\r\nBcc: eve"),  # an account of no address
    ],
)
def test_mail_that_cannot_be_sent_changes_nothing_for_the_request(
    run: Run, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, smtp: str | None, username: str
) -> None:
    caller = Caller(username, 5002, frozenset(), Role.USER)
    place = {} if smtp is None else {"smtp": smtp}
    assert run(wholly, caller=caller, **place) == State.SUCCEEDED
    assert "after task 1: " in caplog.text
    assert mailbox.messages == []


def test_names_cannot_add_headers(run: Run, mailbox: Mailbox) -> None:
    run(wholly, replace(REQUEST, project="cosmo\r\nBcc: eve@example.org"))
    [(receivers, message)] = mailbox.messages
    assert receivers == ["ada@example.org"]
    assert message["Bcc"] is None
    assert r"cosmo\r\nBcc" in str(message["Subject"])
