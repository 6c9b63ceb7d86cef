"""Who is told what and how often, over a real mail server and a real web server."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from datamgr import catalog, db
from datamgr.config_nightly import AlertRule, AlertSettings
from datamgr.db import Database
from datamgr.errors import ConflictError
from scanners import alerts, notices
from scanners.lock import ALERTS_CHECK, NIGHTLY_CLASS, advisory_lock
from scanners.notices import Notice
from tests.commands import call

from .conftest import NOW, Catalog, Hooks, Mailbox

ADA = "ada@example.org"
Row = dict[str, Any]
Check = Callable[..., list[Row]]


def rule(name: str = "full", **fields: Any) -> AlertRule:
    return AlertRule(**({"name": name, "bytes_percent": 90, "email": (ADA,)} | fields))


@dataclass
class Nights:
    """Checks of one centre with one project, `alpha` of 1000 bytes."""

    centre: Catalog
    settings: AlertSettings

    def at(self, percent: float, **options: Any) -> list[Row]:
        """The next check, with so much of the quota used."""
        self.centre.use("alpha", round(10 * percent))
        return self.again(**options)

    def again(self, **options: Any) -> list[Row]:
        return alerts.check(self.centre.database, self.settings, **options)

    def states(self) -> list[Row]:
        with self.centre.database.transaction(read_only=True) as session:
            return alerts.states(session)


@pytest.fixture
def nights(centre: Catalog, mailbox: Mailbox) -> Nights:
    centre.add("alpha", 1000)
    return Nights(centre, AlertSettings(smtp=mailbox.address, rule=(rule(),)))


def test_each_crossing_is_told_once(nights: Nights, mailbox: Mailbox) -> None:
    """Up at 90, down below 88: nothing at 89.9 before, and nothing between once above."""
    told = [len(nights.at(percent)) for percent in (50, 89.9, 90, 95, 120, 89, 88, 87.9, 60, 91)]
    assert told == [0, 0, 1, 0, 0, 0, 0, 1, 0, 1]
    assert mailbox.subjects == [
        "[datamgr] ALERT: project alpha on fs uses 90.0 % of its space quota (limit 90 %)",
        "[datamgr] OK: project alpha on fs uses only 87.9 % of its space quota (limit 90 %)",
        "[datamgr] ALERT: project alpha on fs uses 91.0 % of its space quota (limit 90 %)",
    ]
    receivers, message = mailbox.messages[0]
    assert (receivers, message["From"], message["To"]) == ([ADA], "datamgr@localhost", ADA)
    assert message["Auto-Submitted"] == "auto-generated"
    assert len({message["Message-ID"] for _, message in mailbox.messages}) == 3


def test_the_state_says_since_when_and_when_it_was_told(nights: Nights) -> None:
    nights.at(95)
    (row,) = nights.states()
    assert (row["rule"], row["project"], row["measure"]) == ("full", "alpha", "bytes_percent")
    assert (row["state"], row["value"], row["threshold"]) == ("above", 95, 90)
    assert row["since"] <= row["notified_at"] <= db.utc_now()
    assert row["pending"] == []


def test_a_dry_run_tells_nobody_and_remembers_nothing(nights: Nights, mailbox: Mailbox) -> None:
    (row,) = nights.at(95, dry_run=True)
    assert (row["receiver"], row["delivered"], row["error"]) == (ADA, False, None)
    assert (mailbox.messages, nights.states()) == ([], [])
    assert len(nights.at(95)) == 1


def test_inodes_and_patterns(nights: Nights, mailbox: Mailbox) -> None:
    """alpha and beta have 10 inodes of 10; the rule is for projects that begin with b."""
    nights.centre.add("beta", None, 10)
    nights.centre.use("beta", 0, files=10)
    nights.centre.use("alpha", 0, files=10)
    nights.settings = nights.settings.model_copy(
        update={"rule": (rule(bytes_percent=None, inodes_percent=100, project="b*"),)}
    )
    (row,) = nights.again()
    assert (row["project"], row["measure"], row["value"]) == ("beta", "inodes_percent", 100)


def test_days_to_full_come_from_the_forecast(nights: Nights) -> None:
    """10 a day and 200 left are 20 days; a limit of 30 is clear again above 33."""
    last = db.utc_now() - timedelta(seconds=5)
    found = [(last - timedelta(days=9 - n), 710 + 10 * n) for n in range(10)]
    nights.centre.remember("alpha", found)
    nights.settings = nights.settings.model_copy(
        update={"rule": (rule(bytes_percent=None, days_to_full=30),)}
    )
    (row,) = nights.again()
    assert (row["measure"], row["state"]) == ("days_to_full_bytes", "above")
    assert row["value"] == pytest.approx(20, abs=0.01)
    for quota, told in ((1120, 0), (1140, 1), (1120, 0), (1100, 1)):  # 32, 34, 32 and 30 days
        with nights.centre.database.transaction() as session:
            catalog.project(session, "alpha").quota_bytes = quota
        assert len(nights.again()) == told, quota


def test_a_failed_delivery_is_tried_again_and_holds_up_no_other(
    nights: Nights, mailbox: Mailbox
) -> None:
    """One of two mailboxes does not exist: the other is told once, this one tried every time."""
    settings = nights.settings
    nights.settings = settings.model_copy(
        update={"rule": (rule(email=("nobody@example.org", ADA)),)}
    )
    outcomes = [[(r["receiver"], r["delivered"]) for r in nights.at(95)] for _ in range(3)]
    assert outcomes == [
        [("nobody@example.org", False), (ADA, True)],
        [("nobody@example.org", False)],
        [("nobody@example.org", False)],
    ]
    assert len(mailbox.messages) == 1
    (row,) = nights.again()
    assert "refuses mail to nobody@example.org" in row["error"]
    assert nights.states()[0]["pending"] == ["nobody@example.org"]
    nights.settings = settings  # the mailbox is no longer configured
    assert nights.again() == []


def test_who_was_not_told_that_it_began_is_not_told_that_it_is_over(
    nights: Nights, mailbox: Mailbox
) -> None:
    away = nights.settings.model_copy(update={"smtp": "127.0.0.1:1"})
    there, nights.settings = nights.settings, away
    (row,) = nights.at(95)
    assert "127.0.0.1:1 is away" in row["error"]
    assert nights.at(50) == []
    nights.settings = there
    assert nights.again() == []
    assert [r["delivered"] for r in nights.at(95)] == [True]


def test_a_server_that_is_away_is_asked_once_a_check(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        nights.centre.add(f"p{number}", 10)
        nights.centre.use(f"p{number}", 10)
    asked = []
    real = notices.send_mail

    def send_mail(notice: Notice, settings: AlertSettings) -> None:
        asked.append(notice)
        real(notice, settings)

    monkeypatch.setattr(notices, "send_mail", send_mail)
    nights.settings = nights.settings.model_copy(update={"smtp": "127.0.0.1:1"})
    assert [row["delivered"] for row in nights.again()] == [False] * 5
    assert len(asked) == 1


def test_a_project_without_quota_any_more_is_below(nights: Nights, mailbox: Mailbox) -> None:
    nights.at(95)
    with nights.centre.database.transaction() as session:
        catalog.project(session, "alpha").quota_bytes = None
    (row,) = nights.again()
    assert (row["state"], row["value"]) == ("below", None)
    assert mailbox.subjects[-1].endswith(
        "project alpha on fs is not filling its space quota any more"
    )


def test_states_go_with_their_rule_or_project(nights: Nights) -> None:
    nights.at(95)
    other = nights.settings.model_copy(update={"rule": (rule("other"),)})
    before, nights.settings = nights.settings, other
    assert len(nights.again()) == 1
    assert [row["rule"] for row in nights.states()] == ["other"]
    nights.settings = before.model_copy(update={"rule": ()})
    assert (nights.again(), nights.states()) == ([], [])


def test_a_webhook_gets_signed_json(nights: Nights, hooks: Hooks) -> None:
    """Checked as a receiver would: HMAC-SHA256 of timestamp, dot and body."""
    nights.settings = AlertSettings(
        webhook_secret=SecretStr("geheim"), rule=(rule(email=(), webhook=f"{hooks.url}/204"),)
    )
    (row,) = nights.at(95)
    assert (row["receiver"], row["delivered"]) == ("webhook", True)
    ((_, headers, body),) = hooks.requests
    timestamp = headers["X-Datamgr-Timestamp"]
    expected = hmac.new(b"geheim", timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Datamgr-Signature"] == f"sha256={expected}"
    assert abs(int(timestamp) - db.utc_now().timestamp()) < 60
    sent = json.loads(body)
    assert (sent["schema"], sent["id"], sent["state"]) == ("alert", row["id"], "above")
    assert (sent["project"], sent["value"], sent["threshold"]) == ("alpha", 95, 90)
    assert nights.again() == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("302", "answers 302"), ("500", "answers 500"), ("404", "answers 404"), ("slow", "is away")],
)
def test_a_webhook_that_does_not_accept_is_tried_again(
    nights: Nights, hooks: Hooks, path: str, reason: str
) -> None:
    """A redirection is not followed, and nobody waits longer than the time-out."""
    nights.settings = AlertSettings(
        timeout_s=0.2 if path == "slow" else 60,
        webhook_secret=SecretStr("geheim"),
        rule=(rule(email=(), webhook=f"{hooks.url}/{path}"),),
    )
    for _ in range(2):
        (row,) = nights.at(95)
        assert not row["delivered"]
        assert reason in row["error"]
    assert [request[0] for request in hooks.requests] == [f"/{path}"] * 2


def test_mail_and_webhook_of_a_rule_fail_each_for_itself(
    nights: Nights, mailbox: Mailbox, hooks: Hooks
) -> None:
    """Without the secret the webhook is not called unsigned, and the mail goes out."""
    both = rule(webhook=f"{hooks.url}/204")
    nights.settings = nights.settings.model_copy(update={"rule": (both,)})
    told = {row["receiver"]: row for row in nights.at(95)}
    assert told[ADA]["delivered"]
    assert "DATAMGR_ALERTS__WEBHOOK_SECRET is not set" in told["webhook"]["error"]
    assert hooks.requests == []
    nights.settings = nights.settings.model_copy(update={"webhook_secret": SecretStr("x")})
    assert [(r["receiver"], r["delivered"]) for r in nights.again()] == [("webhook", True)]
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(
    "name", ["a\r\nBcc: eve@example.org", "a\nb", "a\u2028b", "\x1b[2J", "ä" * 200]
)
def test_no_name_can_add_a_header(nights: Nights, mailbox: Mailbox, name: str) -> None:
    """Most such projects cannot be registered, but nothing rests on that."""
    key = ("full", "fs", name, "bytes_percent")
    notice = Notice(key, ADA, rule(), notices.ABOVE, 95.0, 90.0, NOW)
    notices.send_mail(notice, nights.settings)
    ((receivers, message),) = mailbox.messages
    assert receivers == [ADA]
    assert sorted(name for name in message if not name.startswith("X-")) == [
        "Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From",
        "MIME-Version", "Message-ID", "Subject", "To",
    ]  # fmt: skip
    assert str(message["Subject"]).isprintable()


@pytest.mark.parametrize(
    "address", ["a@b\nBcc: eve@example.org", "a@b, eve@example.org", "Ada <a@b>", "a", "ä@b"]
)
def test_an_address_is_one_plain_address(address: str) -> None:
    with pytest.raises(ValidationError):
        rule(email=(address,))


def test_two_checks_at_once_are_refused(nights: Nights) -> None:
    with (
        advisory_lock(nights.centre.database, NIGHTLY_CLASS, ALERTS_CHECK, "busy"),
        pytest.raises(ConflictError, match="alerts are being checked"),
    ):
        nights.again()


def test_the_state_is_written_before_anybody_is_told(nights: Nights) -> None:
    """So that a process that is killed while it tells somebody tries that one again."""
    seen: list[list[Row]] = []

    def die(notice: Notice, settings: AlertSettings) -> None:
        seen.append(nights.states())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nights.at(95, deliver=die)
    assert seen[0][0]["pending"] == [ADA]
    ids = [row["id"] for row in nights.again()]
    assert len(ids) == 1
    assert nights.again() == []


def test_commands_say_who_was_told_and_fail_if_somebody_was_not(
    nights: Nights,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATAMGR_ALERTS__RULE", json.dumps([rule().model_dump()]))
    monkeypatch.setenv("DATAMGR_ALERTS__SMTP", "127.0.0.1:1")
    nights.centre.use("alpha", 950)
    shown = call(capfd, "alerts", "check", "--dry-run")
    assert (shown.exit_code, "would be told" in shown.stdout) == (0, True)
    failed = call(capfd, "alerts", "check")
    assert failed.exit_code == 7
    assert failed.stderr.splitlines()[-1].startswith(
        "datamgr: 1 of 1 notices could not be delivered: the mail server 127.0.0.1:1 is away"
    )
    monkeypatch.setenv("DATAMGR_ALERTS__SMTP", mailbox.address)
    assert call(capfd, "alerts", "check", "--json").json["rows"][0]["delivered"] is True
    assert "nobody is to be told" in call(capfd, "alerts", "check").stdout
    assert "bytes_percent" in call(capfd, "alerts", "list").stdout


def test_without_a_scan_there_is_nothing_to_tell(database: Database) -> None:
    assert alerts.check(database, AlertSettings(rule=(rule(),))) == []
