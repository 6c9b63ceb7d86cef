"""One member of a container: a file, directory or link with all that is known of it.

`encode` and `decode` turn it into the headers of a tar file and back without loss.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from tiering.archive import acl, pax
from tiering.archive.pax import Header
from tiering.archive.store import DamagedError

# Kind (a letter as in `find -printf %y`, h for a further name of a file) and type in a header.
_TYPES = {"f": b"0", "h": b"1", "l": b"2", "c": b"3", "b": b"4", "d": b"5", "p": b"6"}
_KINDS = {number: letter for letter, number in _TYPES.items()}
_EXTENDED = b"x"
_XATTR = b"SCHILY.xattr."
_ACL_XATTRS = {keyword: name for name, keyword in acl.KEYWORDS.items()}
_NOTE = b"datamgr "
# json.dumps would make an encoder for each call.
_JSON = json.JSONEncoder(separators=(",", ":")).encode

Extent = tuple[int, int]  # offset and length in bytes


class Entry(NamedTuple):
    """What a member says of itself.

    `path` is relative to the root. `link` is the target of a symbolic link, or the path of the
    file of which an `h` is another name. `extents` is where a sparse file has data, None for
    others. `note` is JSON that other tar programs ignore: identity, checksums.
    """

    path: bytes
    kind: str
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size_bytes: int = 0
    link: bytes = b""
    user: bytes = b""
    group: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = MappingProxyType({})
    extents: tuple[Extent, ...] | None = None
    note: Mapping[str, object] = MappingProxyType({})

    @property
    def stored_bytes(self) -> int:
        """Bytes of its payload: all of a file, or map and data of a sparse one."""
        if self.kind != "f":
            return 0
        if self.extents is None:
            return self.size_bytes
        return len(sparse_map(self)) + sum(length for _, length in self.extents)

    def with_note(self, note: Mapping[str, object]) -> "Entry":
        """The same with another note, the last field: a tenth of the time of `_replace`."""
        return Entry._make((*self[:-1], note))


def encode(entry: Entry) -> bytes:
    """The headers in front of the payload."""
    # Which bytes of a name would be a character is nobody's business.
    names = (entry.path, entry.link, entry.user, entry.group)
    records = {} if all(name.isascii() for name in names) else {b"hdrcharset": b"BINARY"}
    name = _prefixed(entry.path) + (b"/" if entry.kind == "d" else b"")
    link = _prefixed(entry.link) if entry.kind == "h" else entry.link
    if entry.extents is not None:
        folder, _, base = name.rpartition(b"/")
        records[b"GNU.sparse.major"], records[b"GNU.sparse.minor"] = b"1", b"0"
        records[b"GNU.sparse.name"] = name
        records[b"GNU.sparse.realsize"] = b"%d" % entry.size_bytes
        name = folder + b"/GNUSparseFile.0/" + base
    records[b"path"] = name
    records[b"mtime"] = pax.encode_time(entry.mtime_ns)
    if link:
        records[b"linkpath"] = link
    numbers = {b"size": (entry.stored_bytes, 11), b"uid": (entry.uid, 7), b"gid": (entry.gid, 7)}
    records |= {k: b"%d" % n for k, (n, digits) in numbers.items() if not pax.fits(n, digits)}
    for keyword, text in ((b"uname", entry.user), (b"gname", entry.group)):
        if len(text) > 31 or not text.isascii():
            records[keyword] = text
    for keyword, value in entry.xattrs.items():
        if keyword in acl.KEYWORDS:
            records[acl.KEYWORDS[keyword]] = acl.to_text(value)
        else:
            records[_XATTR + _escaped(keyword)] = value
    if entry.note:
        records[b"comment"] = _NOTE + _JSON(entry.note).encode()
    body = pax.encode_records(records)
    header = Header(
        name=name if name.isascii() and len(name) <= 100 else b"long-name",
        type=_TYPES[entry.kind],
        size=entry.stored_bytes,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime_s=max(0, entry.mtime_ns // 10**9),
        link=link,
        user=entry.user,
        group=entry.group,
        device=entry.device,
    )
    return _announcement(len(body)) + pax.padded(body) + header.encode()


@lru_cache(maxsize=1000)
def _announcement(size: int) -> bytes:
    """The block in front of so many bytes of PAX records."""
    return Header(name=b"PaxHeaders/member", type=_EXTENDED, size=size, mode=0o600).encode()


def is_extended(header: Header) -> bool:
    """Whether the block announces PAX records of the next member."""
    return header.type == _EXTENDED


def decode(records: pax.Records, header: Header) -> Entry:
    """The entry; of a sparse file still without its extents, which are in the payload.

    Raises:
        DamagedError: this is no header that `encode` has made.
    """
    if header.type not in _KINDS:
        raise DamagedError(f"a member is of the unknown type {header.type!r}")
    try:
        sparse = b"GNU.sparse.name" in records
        size = int(records.get(b"size", header.size))
        kind = _KINDS[header.type]
        name = records.get(b"GNU.sparse.name", records.get(b"path", header.name))
        link = records.get(b"linkpath", header.link)
        return Entry(
            path=_bare(name.removesuffix(b"/") if kind == "d" else name),
            kind=kind,
            mode=header.mode,
            uid=int(records.get(b"uid", header.uid)),
            gid=int(records.get(b"gid", header.gid)),
            mtime_ns=pax.decode_time(records.get(b"mtime", b"%d" % header.mtime_s)),
            size_bytes=int(records.get(b"GNU.sparse.realsize", size)),
            link=_bare(link) if kind == "h" else link,
            user=records.get(b"uname", header.user),
            group=records.get(b"gname", header.group),
            device=header.device,
            xattrs=_xattrs(records),
            extents=() if sparse else None,
            note=_note(records),
        )
    except ValueError as error:
        raise DamagedError("a header has a number that is none") from error


def sparse_map(entry: Entry) -> bytes:
    """Where a sparse file has data, in front of that data.

    Source: GNU tar manual, "Storing Sparse Files", format 1.0. The last extent is empty and at
    the file's end, which otherwise would be lost with a hole there.
    """
    extents = [*(entry.extents or ()), (entry.size_bytes, 0)]
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    return pax.padded(b"".join(b"%d\n" % number for number in numbers))


def parse_sparse_map(text: bytes) -> tuple[tuple[Extent, ...], int] | None:
    """The extents that have data, and the bytes that the map takes; None while it is cut off.

    Raises:
        DamagedError: it is no map.
    """
    lines = text.split(b"\n")
    try:
        number = int(lines[0]) if len(lines) > 1 else None
        if number is None or len(lines) < 2 * number + 2:
            return None
        flat = [int(line) for line in lines[1 : 2 * number + 1]]
    except ValueError as error:
        raise DamagedError("the map of a sparse file is malformed") from error
    extents = tuple(zip(flat[::2], flat[1::2], strict=True))
    length = sum(len(line) + 1 for line in lines[: 2 * number + 1])
    return tuple(e for e in extents if e[1]), length + len(pax.padding(length))


def _xattrs(records: pax.Records) -> dict[bytes, bytes]:
    found = {}
    for keyword, value in records.items():
        if keyword in _ACL_XATTRS:
            found[_ACL_XATTRS[keyword]] = acl.from_text(value)
        elif keyword.startswith(_XATTR):
            name = keyword.removeprefix(_XATTR)
            found[name.replace(b"%3D", b"=").replace(b"%25", b"%")] = value
    return found


def _note(records: pax.Records) -> dict[str, object]:
    text = records.get(b"comment", b"")
    if not text.startswith(_NOTE):
        return {}
    note: dict[str, object] = json.loads(text.removeprefix(_NOTE))
    return note


def _prefixed(path: bytes) -> bytes:
    """A name that no program takes for an option, a drive or a path from the root."""
    return path if path == b"." else b"./" + path


def _bare(name: bytes) -> bytes:
    return name.removeprefix(b"./")


def _escaped(name: bytes) -> bytes:
    """As GNU tar does, for an equals sign ends the keyword."""
    return name.replace(b"%", b"%25").replace(b"=", b"%3D")
