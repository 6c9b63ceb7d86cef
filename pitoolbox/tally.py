"""What a request comes to: numbers by kind of change and of entry, reasons, and a sample."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datamgr import display, owners
from pitoolbox.executor import Issue, Report, Row
from pitoolbox.journal import Totals

SAMPLE = 20
PARTS = ("owner", "group", "mode", "acl")


@dataclass
class Tally:
    """The running count of one request. Its caller sees to it that one thread adds at a time."""

    seen: int = 0
    unchanged: int = 0
    vanished: int = 0
    changed: int = 0
    left: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    sample: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)

    def see(self, report: Report) -> None:
        """Add what an executor found."""
        self.seen += report.seen
        self.unchanged += report.unchanged
        self.vanished += report.vanished
        for issue in report.issues:
            self.leave(issue)

    def leave(self, issue: Issue) -> None:
        """Add an entry that was left as it is."""
        self.left[issue.kind] += 1
        self.reasons[issue.reason] += 1
        if len(self.issues) < SAMPLE:
            shown = {"path": display.printable(issue.path), "kind": issue.kind}
            self.issues.append(shown | {"reason": issue.reason})

    def preview(self, rows: Sequence[Row]) -> None:
        """Add entries that would be changed."""
        self.change(rows, frozenset())
        for row in rows:
            self.kinds[row.kind] += 1
            for part, before, after in zip(PARTS, row.before, row.after, strict=True):
                if before != after:
                    self.changes[part] += 1

    def change(self, rows: Sequence[Row], untouched: Collection[int]) -> None:
        """Add entries that are changed, but for these numbers; the journal counts their parts."""
        self.changed += len(rows) - len(untouched)
        for number in range(len(rows)):
            if len(self.sample) >= SAMPLE:
                break
            if number not in untouched:
                row = rows[number]
                sides = {"before": _state(row.before), "after": _state(row.after)}
                self.sample.append({"path": display.printable(row.path), **sides})

    def result(self, totals: Totals | None = None, earlier: int = 0) -> dict[str, Any]:
        """As it is kept; `totals` of the journal know of runs before a crash as well.

        `earlier`: entries that earlier runs changed, which this one saw unchanged.
        """
        left: Mapping[str, int] = totals.issues if totals else self.left
        return {
            "seen": self.seen,
            "changed": totals.changed if totals else self.changed,
            "unchanged": max(0, self.unchanged - earlier),
            "skipped": left.get("skipped", 0),
            "failed": left.get("failed", 0),
            "vanished": self.vanished,
            "changes": dict(totals.changes if totals else self.changes),
            "kinds": dict(totals.kinds if totals else self.kinds),
            "reasons": dict(totals.reasons if totals else self.reasons),
            "sample": self.sample,
            "issue_sample": self.issues,
        }


def _state(state: tuple[int, int, int, str | None]) -> dict[str, Any]:
    uid, gid, mode, acl = state
    return {
        "owner": owners.user_name(uid),
        "group": owners.group_name(gid),
        "mode": f"{mode:04o}",
        "acl": acl is not None,
    }
