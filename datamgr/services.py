"""Which long-running processes there are, each one a `datamgr` command."""

import sys
from collections.abc import Mapping, Sequence

from datamgr.errors import InvalidError

SERVICES: Mapping[str, tuple[str, ...]] = {
    "web": ("web",),
    "worker": ("worker",),
    "perms-worker": ("perms", "worker"),
    "perms-lister": ("perms", "lister"),
    "tier-daemon": ("tier", "daemon"),
}


def commands(names: Sequence[str], global_options: Sequence[str]) -> dict[str, list[str]]:
    """The command line of each named service, in the order given.

    `global_options` stand before the command, as in `datamgr --config FILE web`.

    Raises:
        InvalidError: there is no such service.
    """
    for name in names:
        if name not in SERVICES:
            raise InvalidError(
                f"there is no service {name!r} (up.services); known are {', '.join(SERVICES)}"
            )
    program = [sys.executable, "-m", "datamgr.cli.main", *global_options]
    return {name: [*program, *SERVICES[name]] for name in names}
