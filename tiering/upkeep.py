"""Upkeep of a whole root as it is asked for: what is to be said of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from datamgr import display
from tiering import below, order, reconcile, repack, requests, scrub, trash
from tiering.questions import Action
from tiering.request import Request
from tiering.root import ManagedRoot, Report


def do(
    root: ManagedRoot, request: Request, paths: Sequence[bytes], report: Report
) -> dict[str, Any]:
    """Whatever upkeep is asked for; `paths` is of a reconciliation that is not recursive."""
    if request.action is Action.RECONCILE:
        return reconciled(root, report, None if request.recursive else paths)
    if request.action is Action.SCRUB:
        return scrubbed(root, request, report)
    return expired(root, report)


def reconciled(
    root: ManagedRoot, report: Report, listed: Sequence[bytes] | None = None
) -> dict[str, Any]:
    """Compare the tables with the disk; `report` names what could not be looked at."""
    outcome = reconcile.reconcile(root, report, listed)
    order.refresh_all(root)
    return {
        "seen": outcome.seen,
        "renamed": outcome.renamed,
        "removed": outcome.removed,
        "returned": outcome.returned,
    }


def scrubbed(root: ManagedRoot, request: Request, report: Report) -> dict[str, Any]:
    """Read the archive again; `report` names damaged containers that were not repaired."""
    read = scrub.Scrubbed()
    damaged = []
    for damage in scrub.scrub(
        root,
        read,
        older_than=timedelta(seconds=request.older_than_s),
        bytes_per_s=request.bytes_per_s,
        repair=request.repair,
        watch=report.watch,
    ):
        files = [display.encode_row({"path": path}) for path in damage.paths]
        damaged.append(
            {
                "container": damage.key,
                "copy": damage.copy,
                "reason": damage.reason,
                "repaired": damage.repaired,
                "files": files,
            }
        )
        if not damage.repaired:
            report.fail(b".", f"{damage.key} in `{damage.copy}`: {damage.reason}")
    return {"containers": read.containers, "bytes": read.bytes, "damaged": damaged}


def expired(root: ManagedRoot, report: Report) -> dict[str, Any]:
    """Free what nobody needs: old requests and copies, then what little is left of containers."""
    with root.database.transaction() as session:
        requests.forget(session, root.name, timedelta(days=root.settings.requests_days))
        below.compact(session, root.name)
    freed = trash.expire(root)
    freed += repack.repack(root, report, below=root.settings.repack_below, watch=report.watch)
    return {"freed": freed}
