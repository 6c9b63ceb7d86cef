"""Scans as queued tasks."""

import base64
from collections.abc import Mapping
from typing import Any

from sqlalchemy import orm

from datamgr import catalog, tasks
from datamgr.identity import Caller
from datamgr.worker import TaskContext
from scanners import scan as scanning
from scanners.walk import Progress


def run_scan(context: TaskContext, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scan a file system as `submit` asked. Safe to repeat after a crash.

    Raises:
        DatamgrError: as `scan.run`.
    """

    def on_progress(seen: Progress) -> None:
        context.checkpoint()
        context.progress(seen.entries + seen.directories, None, "entries", "walking")

    request = scanning.ScanRequest(
        params["filesystem"],
        [base64.b64decode(root) for root in params["roots_b64"]],
        params["workers"],
        params["cross_mounts"],
    )
    scan_id = scanning.run(context.settings, context.database, request, on_progress)
    return {"scan_id": scan_id}


def submit(session: orm.Session, caller: Caller, request: scanning.ScanRequest) -> tasks.Task:
    """Queue a scan; scans of one file system run in the order they were asked for.

    Raises:
        ForbiddenError: the caller may not run scans with the worker's rights.
    """
    catalog.require_manager(session, caller, "queue scans")
    params = {
        "filesystem": request.filesystem,
        "roots_b64": [base64.b64encode(root).decode() for root in request.roots],
        "workers": request.workers,
        "cross_mounts": request.cross_mounts,
    }
    return tasks.submit(session, caller, "scan", f"scan:{request.filesystem}", params)
