"""Which account the embedded PostgreSQL runs as; it refuses to run as root."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from datamgr import process
from datamgr.errors import UnavailableError

# "nobody" has this number everywhere, and initdb insists on a number that has a name.
# Source: Linux kernel, /proc/sys/kernel/overflowuid; systemd, "Users, Groups, UIDs and GIDs".
NOBODY = 65534
PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Account:
    """An account and the words before a command line that make the command run as it."""

    uid: int
    gid: int
    prefix: tuple[str, ...]


def choose(data: Path) -> Account:
    """The account for the data directory `data`, which need not exist yet.

    An ordinary user's PostgreSQL runs as that user. Root's runs in a user namespace in which
    root is called nobody: its files outside stay root's own. Where root may not create one, as
    in many containers, it runs as `postgres` or `nobody`, and goes on so once data exist.

    Raises:
        UnavailableError: root may run it in neither way.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return Account(uid, gid, ())
    owner = data.stat().st_uid if data.exists() else None
    if owner:
        return _become(_by_uid(owner))
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")
    try:
        process.run([*namespace, "true"], timeout_s=PROBE_TIMEOUT_S)
    except UnavailableError as error:
        if owner == 0:
            raise UnavailableError(
                f"root may not create a user namespace here, which the data in {data} need; "
                f"permit it, choose another state_dir, or set database.url ({error})"
            ) from error
        return _become(_ordinary())
    return Account(uid, gid, namespace)


def require_reach(account: Account, *paths: Path) -> None:
    """Make sure that PostgreSQL, running as `account`, gets to each path and may enter or run it.

    Raises:
        UnavailableError: a directory on the way is closed to the account; it is named.
    """
    for path in paths if account.prefix else ():
        if not _may_enter(account, path):
            closed = (step for step in reversed(path.parents) if not _may_enter(account, step))
            raise UnavailableError(
                f"PostgreSQL refuses to run as root and may not enter {next(closed, path)} when "
                "run otherwise; choose another state_dir or place for datamgr, run it as an "
                "ordinary user, or set database.url"
            )


def _may_enter(account: Account, path: Path) -> bool:
    # Asked of the kernel, because mode bits alone know nothing of access control lists.
    try:
        process.run([*account.prefix, "test", "-x", str(path)], timeout_s=PROBE_TIMEOUT_S)
    except UnavailableError:
        return False
    return True


def _become(entry: pwd.struct_passwd) -> Account:
    prefix = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    try:
        process.run([*prefix, "true"], timeout_s=PROBE_TIMEOUT_S)
    except UnavailableError as error:
        raise UnavailableError(
            f"PostgreSQL refuses to run as root and cannot be run as {entry.pw_name}; run "
            f"datamgr as an ordinary user, or set database.url ({error})"
        ) from error
    return Account(entry.pw_uid, entry.pw_gid, prefix)


def _ordinary() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UnavailableError(
        "PostgreSQL refuses to run as root and there is no account postgres or nobody; run "
        "datamgr as an ordinary user, or set database.url"
    )


def _by_uid(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError as error:
        raise UnavailableError(
            f"the embedded PostgreSQL's data belong to account number {uid}, which does not exist"
        ) from error
