"""The mail that tells a requester how a request ended."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datamgr import display, mail, units
from datamgr.config import Settings
from datamgr.config_types import EmailAddress
from datamgr.errors import InvalidError
from datamgr.tasks import State, Task
from pitoolbox.requests import KIND, Request

_ADDRESS: TypeAdapter[str] = TypeAdapter(EmailAddress)
_NAMED = 10  # reasons that a mail names


def ended(settings: Settings, task: Task) -> None:
    """Send mail about a request that has ended, if it asked for that.

    Raises:
        InvalidError: the requester has no address, or the mail server refuses the mail.
        UnavailableError: the mail server does not answer.
    """
    if task.kind != KIND or not task.params.get("notify"):
        return
    request = Request.from_params(task.params)
    told = mail.message(
        f"[datamgr] {headline(task, request)}",
        address_of(settings, task.owner),
        text(task, request),
        sender=settings.alerts.sender,
        id=f"perms-{task.id}-{task.state}",
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


def headline(task: Task, request: Request) -> str:
    """Which request ended how, in one line."""
    what = "Preview" if request.dry_run else "Request"
    if request.undo_of is not None:
        action = f"undo of request {request.undo_of}"
    elif request.retry_of is not None:
        action = f"retry of request {request.retry_of}"
    else:
        action = str(request.action)
    ended = "is done, but not for all entries" if task.state == State.PARTIAL else task.state
    shown = f"{action} in project {request.project}"
    return display.printable(f"{what} {task.id} ({shown}): {ended}")


def text(task: Task, request: Request) -> str:
    """What the mail says: how it ended, the numbers, the reasons, where to look."""
    lines = [f"{headline(task, request)}.", ""]
    if task.error is not None:
        lines += [f"{display.printable(task.error)}.", ""]
    if task.result is not None:
        lines += [*_numbers(task.result, would=request.dry_run), ""]
    lines.append(f"Everything about it:  datamgr perms show {task.id}")
    if task.result is not None and (task.result.get("skipped") or task.result.get("failed")):
        lines.append(f"What was left alone:  datamgr perms errors {task.id}")
    perhaps_changed = task.result is None or task.result.get("changed")
    if perhaps_changed and not request.dry_run and request.undo_of is None:
        lines.append(f"To take it back:      datamgr perms undo {task.id}")
    return "\n".join(lines) + "\n"


def _numbers(result: Mapping[str, Any], *, would: bool) -> list[str]:
    heads = {
        "seen": "entries seen",
        "changed": "would be changed" if would else "changed",
        "unchanged": "right already",
        "skipped": "skipped",
        "failed": "failed",
    }
    lines = [f"{units.format_count(result.get(key, 0)):>15} {head}" for key, head in heads.items()]
    reasons = sorted(result.get("reasons", {}).items(), key=lambda pair: -pair[1])
    for reason, number in reasons[:_NAMED]:
        lines.append(f"{units.format_count(number):>15} because {display.printable(reason)}")
    return lines
