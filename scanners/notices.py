"""What a notice says, and how it reaches a mailbox or a webhook."""

import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from typing import Any

from datamgr import display, mail, units
from datamgr.config_nightly import AlertRule, AlertSettings
from datamgr.errors import DatamgrError, InvalidError, UnavailableError

ABOVE, BELOW = "above", "below"
WEBHOOK = "webhook"
SECRET_VARIABLE = "DATAMGR_ALERTS__WEBHOOK_SECRET"  # noqa: S105  a name, no secret

_MEASURES = {
    "bytes_percent": "its space quota",
    "inodes_percent": "its inode quota",
    "days_to_full_bytes": "its space quota",
    "days_to_full_inodes": "its inode quota",
}


@dataclass(frozen=True)
class Notice:
    """One crossing of a threshold, for one receiver: an address, or `webhook`.

    `key` is rule, file system, project and measure.
    """

    key: tuple[str, str, str, str]
    receiver: str
    rule: AlertRule
    state: str
    value: float | None
    threshold: float
    since: datetime

    @property
    def id(self) -> str:
        """The same for all receivers and tries of one crossing, and for no other."""
        told = json.dumps([*self.key, self.state, self.since.isoformat()])
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def body(self) -> dict[str, Any]:
        """The notice as a row."""
        rule, filesystem, project, measure = self.key
        return {
            "id": self.id,
            "rule": rule,
            "filesystem": filesystem,
            "project": project,
            "measure": measure,
            "state": self.state,
            "value": self.value,
            "threshold": self.threshold,
            "since": self.since,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """The notice in words; names are escaped, so it is one line."""
        _, filesystem, project, measure = self.key
        who = f"project {display.printable(project)} on {filesystem}"
        quota = _MEASURES[measure]
        if self.value is None:
            return f"{who} is not filling {quota} any more"
        if measure.startswith("days"):
            limit = f"{self.threshold:g} days"
            return f"{who} will fill {quota} in about {self.value:.0f} days (limit {limit})"
        verb = "uses" if self.state == ABOVE else "uses only"
        return f"{who} {verb} {self.value:.1f} % of {quota} (limit {self.threshold:g} %)"


def receivers(rule: AlertRule) -> list[str]:
    """Whom a rule tells, each once."""
    return list(dict.fromkeys(rule.email)) + ([WEBHOOK] if rule.webhook else [])


@dataclass
class Courier:
    """Delivers notices; what did not answer once is not asked again by the same courier."""

    _away: dict[str, str] = field(default_factory=dict)

    def deliver(self, notice: Notice, settings: AlertSettings) -> None:
        """Hand a notice to the mail server or the webhook; returns when it was accepted.

        Raises:
            UnavailableError: it does not answer, or not in time.
            InvalidError: it refuses the notice, or something is not configured.
        """
        to_webhook = notice.receiver == WEBHOOK
        place = str(notice.rule.webhook) if to_webhook else settings.smtp
        if place in self._away:
            raise UnavailableError(self._away[place])
        try:
            if to_webhook:
                post(place, notice, settings)
            else:
                send_mail(notice, settings)
        except UnavailableError as error:
            self._away[place] = str(error)
            raise


def message(notice: Notice, sender: str) -> EmailMessage:
    """The notice as mail."""
    mark = "ALERT" if notice.state == ABOVE else "OK"
    since = units.format_time(notice.since)
    return mail.message(
        f"[datamgr] {mark}: {notice.sentence()}",
        notice.receiver,
        f"{notice.sentence()}.\n\n"
        f"State: {notice.state} since {since}\nRule:  {notice.rule.name}\n\n"
        "This is told once; the next message comes when the state changes.\n",
        sender=sender,
        id=notice.id,
    )


def send_mail(notice: Notice, settings: AlertSettings) -> None:
    """Hand the notice to `alerts.smtp`.

    Raises:
        UnavailableError, InvalidError: as `Courier.deliver`.
    """
    mail.send(message(notice, settings.sender), settings)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC-SHA256, in hex, of the timestamp, a dot and the body.

    Source: RFC 2104.
    """
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that moved is for the administrator to look at: the answer stays an error."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(url: str, notice: Notice, settings: AlertSettings) -> None:
    """POST the notice to a webhook as signed JSON; any 2xx answer accepts it.

    Raises:
        UnavailableError, InvalidError: as `Courier.deliver`.
    """
    if settings.webhook_secret is None:
        raise InvalidError(f"{SECRET_VARIABLE} is not set, so that webhooks cannot be signed")
    body = json.dumps({"schema": "alert", **display.encode_row(notice.body())}).encode()
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "datamgr",
        "X-Datamgr-Timestamp": timestamp,
        "X-Datamgr-Signature": signature(
            settings.webhook_secret.get_secret_value().encode(), timestamp, body
        ),
    }
    # The settings allow http and https only.
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
    where = f"webhook of rule {notice.rule.name}"
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=settings.timeout_s).close()
    except urllib.error.HTTPError as error:
        error.close()
        refusal: type[DatamgrError] = InvalidError if error.code < 500 else UnavailableError
        raise refusal(f"the {where} answers {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"the {where} is away: {error}") from error
