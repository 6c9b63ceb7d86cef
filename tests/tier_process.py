"""Does some tiering in a process of its own, which a test may have killed at a point."""

import os

from datamgr import config, db
from tiering import recovery
from tiering.punch import punch
from tiering.put import put
from tiering.root import ManagedRoot, Report, open_root
from tiering.stage import stage


def act(root: ManagedRoot, action: str, paths: list[bytes]) -> Report:
    if action == "recover":
        return recovery.recover(root)
    if action == "put":
        return put(root, [b"."])
    return (punch if action == "punch" else stage)(root, paths)


def main(actions: str, name: str, *paths: str) -> int:
    """The exit code of ACTION+ACTION…: recover, put (of all that is there), punch or stage."""
    settings = config.load()
    with db.open_database(settings) as database, open_root(settings, database, name) as root:
        reports = [act(root, a, [os.fsencode(p) for p in paths]) for a in actions.split("+")]
    failures = [failure for report in reports for failure in report.failures]
    for failure in failures:
        print(os.fsdecode(failure.path), failure.reason)
    return 1 if failures else 0
