"""Does some tiering in a process of its own, which a test may have killed at a point.

`python -m tests.tier_process ACTION+ACTION… ROOT PATH…` with ACTION recover, put (of all that is
there), punch or stage.
"""

import os
import sys
from functools import partial

from datamgr import config, db
from tiering import recovery
from tiering.punch import punch
from tiering.put import put
from tiering.root import ManagedRoot, Report, each, open_root
from tiering.stage import stage


def act(root: ManagedRoot, action: str, paths: list[bytes]) -> Report:
    if action == "recover":
        return recovery.recover(root)
    if action == "put":
        return put(root, [b"."])
    return each(paths, partial(punch if action == "punch" else stage, root))


def main(actions: str, name: str, *paths: str) -> int:
    settings = config.load()
    with db.open_database(settings) as database, open_root(settings, database, name) as root:
        reports = [act(root, a, [os.fsencode(p) for p in paths]) for a in actions.split("+")]
    failures = [failure for report in reports for failure in report.failures]
    for failure in failures:
        print(os.fsdecode(failure.path), failure.reason)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
