"""What may be changed: the operator's policy, one checked order, and the verdict on an entry."""

import grp
import os
import pwd
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pitoolbox.privileged import checks, kernel, states
from pitoolbox.privileged.errors import RefusedError, SkippedError
from pitoolbox.privileged.states import State


@dataclass(frozen=True)
class Policy:
    """What the operator allows, from the configuration and never from the database.

    `roots`: directories below which the roots of projects lie. Staff may override the
    rules of ownership and of hard links; nobody else may. `account`: uid and gid to become when
    started by root.
    """

    roots: tuple[bytes, ...]
    min_uid: int
    min_gid: int
    staff_users: frozenset[str]
    staff_groups: frozenset[str]
    account: tuple[int, int] | None

    @classmethod
    def heard(cls, told: dict[str, Any]) -> "Policy":
        """As the operator's configuration says, in the argument of the process."""
        account = told["account"]
        return cls(
            roots=tuple(os.fsencode(root) for root in told["roots"]),
            min_uid=int(told["min_uid"]),
            min_gid=int(told["min_gid"]),
            staff_users=frozenset(told["staff_users"]),
            staff_groups=frozenset(told["staff_groups"]),
            account=None if account is None else (int(account[0]), int(account[1])),
        )

    def is_staff(self, uid: int) -> bool:
        """Whether the account is staff by the configuration; root is."""
        if uid == 0:
            return True
        entry = pwd.getpwuid(uid)
        groups = {_group_name(gid) for gid in os.getgrouplist(entry.pw_name, entry.pw_gid)}
        return entry.pw_name in self.staff_users or not groups.isdisjoint(self.staff_groups)


@dataclass(frozen=True)
class Order:
    """One request, checked. `uid` and `gid` of -1 and empty `clauses` change nothing."""

    root: int
    device: int
    groups: frozenset[int]
    override: bool
    dry_run: bool
    uid: int
    gid: int
    clauses: tuple[tuple[str, str], ...]
    recursive: bool
    max_depth: int
    files: bool
    directories: bool
    min_gid: int
    min_uid: int
    members: dict[int, bool] = field(default_factory=dict)
    modes: dict[int, int] = field(default_factory=dict)

    def with_clauses(self, mode: int) -> int:
        """The mode, with its file type, after the clauses."""
        if mode not in self.modes:
            self.modes[mode] = states.group_bits(mode, self.clauses)
        return self.modes[mode]

    def is_member(self, uid: int) -> bool:
        """Whether it is a user's account in one of the project's groups, says the name service."""
        if uid not in self.members:
            self.members[uid] = uid >= self.min_uid and is_member(uid, self.groups)
        return self.members[uid]


def is_member(uid: int, groups: frozenset[int]) -> bool:
    """Whether an account of this number exists and is in one of these groups."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return False
    return not groups.isdisjoint(os.getgrouplist(entry.pw_name, entry.pw_gid))


def target(order: Order, found: kernel.Status, acl: bytes | None) -> State:
    """What the order makes of an entry of this status."""
    mode = found.st_mode
    uid = found.st_uid if order.uid < 0 else order.uid
    gid = found.st_gid if order.gid < 0 else order.gid
    if order.clauses and not stat.S_ISLNK(mode):
        if acl is None:
            mode = order.with_clauses(mode)
        else:
            mode, acl = states.with_acl(mode, acl, order.clauses)
    return State(uid, gid, stat.S_IMODE(mode), acl)


def judge(order: Order, found: kernel.Status, links: int) -> None:
    """Raises SkippedError when the policy leaves this entry alone."""
    mode = found.st_mode
    if found.st_dev != order.device:
        raise SkippedError("it is on another file system")
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        raise SkippedError("it is a device node")
    if mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISDIR(mode):
        raise SkippedError("it is a set-id program")  # or a FIFO: a change takes the bits away
    if not order.override:
        if links > 1:
            raise SkippedError("it has hard links, which may lie outside of the project")
        if not order.is_member(found.st_uid):
            raise SkippedError("its owner does not belong to the project")
    if found.attributes & 0x10:
        raise SkippedError("it is immutable (chattr +i)")
    if found.attributes & 0x20:
        raise SkippedError("it is append-only (chattr +a)")


def judge_return(order: Order, now: State, after: State) -> None:
    """Raises SkippedError when a former owner or group may not be given back.

    The rows of an undo come from outside, and are believed no more than an order.
    """
    if after.uid != now.uid and after.uid < order.min_uid:
        raise SkippedError("its former owner is a system account")
    if after.uid != now.uid and not order.override and not order.is_member(after.uid):
        raise SkippedError("its former owner does not belong to the project")
    if after.gid != now.gid and after.gid < order.min_gid:
        raise SkippedError("its former group is a system group")


def accept(policy: Policy, told: dict[str, Any], privileged: bool) -> Order:
    """Check an order as if nobody had before. Raises RefusedError, with the sentence to show."""
    groups = frozenset(checks.integer(gid, 0, checks.MOST) for gid in checks.items(told["groups"]))
    for group in groups:
        if group < policy.min_gid:
            raise RefusedError(f"group {_group_name(group)} is one of the system's")
    requester = checks.integer(told["requester"], 0, checks.MOST)
    uid, gid = (checks.integer(told[key], -1, checks.MOST) for key in ("uid", "gid"))
    clauses = _check_clauses(told["clauses"])
    staff = _check_requester(policy, requester, groups)
    override = told["override"] is True
    if override and not staff:
        raise RefusedError("only staff may override the rules of ownership")
    if gid >= 0:
        _check_group(gid, groups, None if staff else requester)
    if uid >= 0:
        _check_owner(policy, uid, None if override else groups)
    dry_run, recursive = told["dry_run"] is not False, told["recursive"] is True
    files, directories = (told[key] is True for key in ("files", "directories"))
    max_depth = checks.integer(told["max_depth"], 0, 2**31)
    root, device = open_root(policy.roots, told, privileged)  # the last, for it is to be closed
    return Order(
        root=root,
        device=device,
        groups=groups,
        override=override,
        dry_run=dry_run,
        uid=uid,
        gid=gid,
        clauses=clauses,
        recursive=recursive,
        max_depth=max_depth,
        files=files,
        directories=directories,
        min_gid=policy.min_gid,
        min_uid=policy.min_uid,
    )


def _check_clauses(told: Any) -> tuple[tuple[str, str], ...]:
    clauses = tuple((operator, letters) for operator, letters in checks.items(told))
    for operator, letters in clauses:
        if type(letters) is not str or not set(letters) <= set("rwxXsugo"):
            raise RefusedError("the mode is none of group level")
        if operator not in ("+", "-", "="):
            raise RefusedError("the mode is none of group level")
    return clauses


def _check_requester(policy: Policy, requester: int, groups: frozenset[int]) -> bool:
    try:
        staff = policy.is_staff(requester)
    except KeyError:
        raise RefusedError(f"there is no account with the number {requester}") from None
    if not staff and requester < policy.min_uid:
        raise RefusedError(f"the account {requester} is one of the system's")
    if not staff and not is_member(requester, groups):
        raise RefusedError(f"the account {requester} is in no group of the project")
    return staff


def _check_group(gid: int, groups: frozenset[int], requester: int | None) -> None:
    if gid not in groups:
        raise RefusedError(f"group {_group_name(gid)} is none of the project")
    try:
        grp.getgrgid(gid)
    except KeyError:
        raise RefusedError(f"there is no group with the number {gid}") from None
    if requester is not None and not is_member(requester, frozenset({gid})):
        raise RefusedError(f"who asked for it is not in group {_group_name(gid)}")


def _check_owner(policy: Policy, uid: int, groups: frozenset[int] | None) -> None:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise RefusedError(f"there is no account with the number {uid}") from None
    if uid < policy.min_uid:
        raise RefusedError(f"the account {name} is one of the system's")
    if groups is not None and not is_member(uid, groups):
        raise RefusedError(f"the account {name} does not belong to the project")


def open_root(roots: Sequence[bytes], told: dict[str, Any], privileged: bool) -> tuple[int, int]:
    """Descriptor and device of the root of a project: below one of `roots`, and as pinned.

    Without privileges and without `roots` it may be anywhere. Raises RefusedError.
    """
    path = checks.encoded(told["root"])
    pin = tuple(checks.integer(told[key], 0, 2**64 - 1) for key in ("device", "inode"))
    shown = os.fsdecode(path)
    names = path.split(b"/")
    if (
        names[0]
        or len(names) < 2
        or not all(names[1:])
        or {b".", b".."} & set(names)
        or b"\0" in path
    ):
        raise RefusedError(f"{shown!r} is no path of a project")
    allowed = any(path.startswith(root.rstrip(b"/") + b"/") for root in roots)
    if not allowed and (privileged or roots):
        raise RefusedError(f"{shown} is below none of the directories in pitoolbox.roots")
    slash = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        root = kernel.open_beneath(slash, path[1:], kernel.OPEN_ROOT)
    except OSError as error:
        raise RefusedError(f"{shown} cannot be opened: {kernel.reason(error)}") from None
    finally:
        os.close(slash)
    found = os.fstat(root)
    if (found.st_dev, found.st_ino) != pin:
        os.close(root)
        raise RefusedError(f"{shown} is not the directory that was registered: it was replaced")
    return root, found.st_dev


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
