"""How a request and its result are put into words, for the command line and for mail."""

from collections.abc import Mapping
from typing import Any

from datamgr import display, units
from datamgr.tasks import State

_NAMED = 10  # reasons that are named
_KINDS = {"f": "files", "d": "directories", "l": "symbolic links", "p": "FIFOs", "s": "sockets"}
_PARTS = {"owner": "owners", "group": "groups", "mode": "modes", "acl": "access control lists"}


def action(row: Mapping[str, Any]) -> str:
    """What is done: as on the command line, or which request is followed up."""
    if row["undo_of"] is not None:
        return f"undo of request {row['undo_of']}"
    if row["retry_of"] is not None:
        return f"{display.printable(row['action'])}, retry of request {row['retry_of']}"
    return display.printable(row["action"])


def headline(row: Mapping[str, Any]) -> str:
    """Which request it is and how it is, in one line."""
    what = "Preview" if row["dry_run"] else "Request"
    partial = "done, but not for all entries"
    ended = partial if row["state"] == State.PARTIAL else row["state"]
    project = display.printable(row["project"])
    return f"{what} {row['id']} ({action(row)}, project {project}): {ended}"


def numbers(result: Mapping[str, Any], *, would: bool) -> list[str]:
    """A line for each number of a result, and for each of the commonest reasons."""
    lines = [
        _line(number, what + (f" ({details})" if details else ""))
        for number, what, details in counts(result, would=would)
    ]
    return lines + [_line(number, f"  {reason}") for number, reason in reasons(result)]


def counts(result: Mapping[str, Any], *, would: bool) -> list[tuple[int, str, str]]:
    """Each number of a result, what it counts, and what it consists of."""
    details = [*_counts(result["kinds"], _KINDS), *_counts(result["changes"], _PARTS)]
    return [
        (result["seen"], "entries seen", ""),
        (result["changed"], "would be changed" if would else "changed", ", ".join(details)),
        (result["unchanged"], "left, for they are right already", ""),
        (result["skipped"], "skipped", ""),
        (result["failed"], "failed", ""),
    ]


def reasons(result: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The commonest reasons for which entries were left alone, and of how many."""
    found = sorted(result["reasons"].items(), key=lambda pair: (-pair[1], pair[0]))
    return [(number, display.printable(reason)) for reason, number in found[:_NAMED]]


def differences(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each entry of the sample by its path, with what is or would be different."""
    return sorted((one["path"], difference(one)) for one in result["sample"])


def difference(sample: Mapping[str, Any]) -> str:
    """What is or would be different in an entry of the sample."""
    before, after = sample["before"], sample["after"]
    parts = [
        f"{part} {display.printable(before[part])} -> {display.printable(after[part])}"
        for part in ("owner", "group", "mode")
        if before[part] != after[part]
    ]
    return ", ".join(parts) or "access control list"


def _counts(counted: Mapping[str, int], names: Mapping[str, str]) -> list[str]:
    return [f"{units.format_count(n)} {names.get(key, key)}" for key, n in sorted(counted.items())]


def _line(number: int, what: str) -> str:
    return f"{units.format_count(number):>15} {what}"
