"""Access control lists as the kernel stores them. Source: acl(5), linux/posix_acl_xattr.h."""

import struct

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
_NOBODY = 2**32 - 1

Entry = tuple[int, int, int]  # tag, rights, number


def packed(
    user: int,
    group: int,
    other: int,
    *,
    users: dict[int, int] | None = None,
    groups: dict[int, int] | None = None,
    mask: int | None = None,
) -> bytes:
    """An ACL of these rights; `users` and `groups` are rights by number."""
    entries = [(USER_OBJ, user, _NOBODY)]
    entries += [(USER, rights, uid) for uid, rights in sorted((users or {}).items())]
    entries += [(GROUP_OBJ, group, _NOBODY)]
    entries += [(GROUP, rights, gid) for gid, rights in sorted((groups or {}).items())]
    entries += [] if mask is None else [(MASK, mask, _NOBODY)]
    entries += [(OTHER, other, _NOBODY)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def entries(acl: bytes) -> list[Entry]:
    """Tag, rights and number of each entry."""
    return [(tag, rights, number) for tag, rights, number in struct.iter_unpack("<HHI", acl[4:])]


def rights(acl: bytes, tag: int) -> int | None:
    """The rights of the first entry of this tag."""
    return next((rights for found, rights, _ in entries(acl) if found == tag), None)


def effective(acl: bytes) -> dict[tuple[int, int], int]:
    """What each entry allows in the end: by tag and number, without the mask's own."""
    mask = rights(acl, MASK)
    held = {USER, GROUP_OBJ, GROUP}
    return {
        (tag, number): given & mask if tag in held and mask is not None else given
        for tag, given, number in entries(acl)
        if tag != MASK
    }
