"""The mail that tells a requester how a request ended."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datamgr import display, mail
from datamgr.config import Settings
from datamgr.config_types import EmailAddress
from datamgr.errors import InvalidError
from datamgr.tasks import Task
from pitoolbox import queries, wording
from pitoolbox.requests import KIND, Request

_ADDRESS: TypeAdapter[str] = TypeAdapter(EmailAddress)


def ended(settings: Settings, task: Task) -> None:
    """Send mail about a request that has ended, if it asked for that.

    Raises:
        InvalidError: the requester has no address, or the mail server refuses the mail.
        UnavailableError: the mail server does not answer.
    """
    if task.kind != KIND or not task.params.get("notify"):
        return
    row = queries.listed(task, Request.from_params(task.params))
    told = mail.message(
        f"[datamgr] {wording.headline(row)}",
        address_of(settings, task.owner),
        text(row, task.result),
        sender=settings.alerts.sender,
        id=f"perms-{task.id}",
    )
    mail.send(told, settings.alerts)


def address_of(settings: Settings, username: str) -> str:
    """Where mail to an account goes.

    Raises:
        InvalidError: its name makes no address.
    """
    section = settings.pitoolbox
    address = section.mail_addresses.get(username, f"{username}@{section.mail_domain}")
    try:
        return _ADDRESS.validate_python(address)
    except ValidationError as error:
        shown = display.printable(address)
        raise InvalidError(f"{shown!r} is no address; set pitoolbox.mail_addresses") from error


def text(row: Mapping[str, Any], result: Mapping[str, Any] | None) -> str:
    """What the mail says: how it ended, the numbers, the reasons, where to look."""
    lines = [f"{wording.headline(row)}.", ""]
    if row["error"] is not None:
        lines += [f"{display.printable(row['error'])}.", ""]
    if result is not None:
        lines += [*wording.numbers(result, would=row["dry_run"]), ""]
    lines.append(f"Everything about it:   datamgr perms show {row['id']}")
    if row["skipped"] or row["failed"]:
        lines.append(f"What was left alone:   datamgr perms errors {row['id']}")
    perhaps_changed = result is None or row["changed"]
    if perhaps_changed and not row["dry_run"] and row["undo_of"] is None:
        lines.append(f"To take it back:       datamgr perms undo {row['id']}")
    return "\n".join(lines) + "\n"
