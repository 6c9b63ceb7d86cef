"""A real tree as each file system's scanner would list it, from what `find -printf` says of it."""

import os
import re
import stat
import string
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

FIND = r"%i\t%D\t%y\t%m\t%n\t%U\t%G\t%s\t%b\t%A@\t%T@\t%C@\t%p\0"
PLAIN = (string.ascii_letters + string.digits + "-_.~/").encode()
TYPES = {"f": "-", "d": "d", "l": "l", "p": "p", "s": "s", "b": "b", "c": "c"}
TYPE_BITS = {
    "f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK, "p": stat.S_IFIFO,
    "s": stat.S_IFSOCK, "b": stat.S_IFBLK, "c": stat.S_IFCHR,
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One line of find; times are decimal texts."""

    ino: str
    dev: str
    kind: str
    mode: str
    nlink: str
    uid: str
    gid: str
    size: str
    blocks: str
    atime: str
    mtime: str
    ctime: str
    path: bytes

    @property
    def full_mode(self) -> int:
        return TYPE_BITS[self.kind] | int(self.mode, 8)


def find(*roots: Path) -> list[Found]:
    """Everything below the roots."""
    command = ["find", *map(str, roots), "-printf", FIND]
    out = subprocess.run(command, capture_output=True, check=True).stdout
    found = []
    for line in out.split(b"\0")[:-1]:
        *fields, path = line.split(b"\t", 12)
        found.append(Found(*(field.decode() for field in fields), path))
    return found


def escaped(text: bytes) -> bytes:
    """As GPFS's ESCAPE '%/'."""
    return b"".join(bytes([b]) if b in PLAIN else b"%%%02X" % b for b in text)


def gpfs(found: Sequence[Found]) -> bytes:
    lines = []
    for f in found:
        show = "|".join(
            [
                stat.filemode(f.full_mode), f.nlink, f.uid, f.gid, f.size,
                str(int(f.blocks) // 2), *map(utc, (f.atime, f.mtime, f.ctime)),
            ]
        )  # fmt: skip
        head = f"{f.ino} 65537 0  ".encode()
        lines.append(
            head + escaped(show.encode()).replace(b"/", b"%2F") + b" -- " + escaped(f.path)
        )
    return b"".join(line + b"\n" for line in lines)


def utc(seconds: str) -> str:
    """A time of find, which writes tv_sec before the point and tv_nsec behind it."""
    whole, _, fraction = seconds.partition(".")
    when = datetime(1970, 1, 1) + timedelta(seconds=int(whole))
    return when.strftime("%Y-%m-%d %H:%M:%S") + "." + fraction[:6].ljust(6, "0")


def lfs(found: Sequence[Found]) -> bytes:
    return b"".join(
        "\t".join(
            [
                f"[0x200000400:{int(f.ino):#x}:0x0]", f.ino, f.kind, f.mode, f.nlink, f.uid,
                f.gid, "0", f.size, f.blocks, f.atime, f.mtime, f.ctime, "",
            ]
        ).encode()
        + f.path
        + b"\n"
        for f in found
    )  # fmt: skip


def lester(found: Sequence[Found], fid: bool = False) -> bytes:
    begun = int(datetime.now(UTC).timestamp())
    header = f"#IDENT#|0.9|1.42.7|{begun}|now|mds1|/dev/mdt|0|0|0|0|scratch|\n".encode()
    lines = [
        "|".join(
            [
                whole(f.atime), whole(f.ctime), whole(f.mtime), f.uid, f.gid,
                f"{f.full_mode:o}", f.size, f.ino, "12:3f2a,11:3f29",
                *([f"0x200000400:{int(f.ino):#x}:0x0"] if fid else []), "",
            ]
        ).encode()
        + f.path
        + b"\n"
        for f in found
    ]  # fmt: skip
    return header + b"".join(lines) + f"#complete#{begun + 60}\n".encode()


def whole(seconds: str) -> str:
    return seconds.partition(".")[0]


def gufi(found: Sequence[Found], lengths: bool = False) -> bytes:
    def record(f: Found) -> bytes:
        path = (b"%04x" % len(f.path) if lengths else b"") + f.path
        numbers = [
            f.ino, str(f.full_mode), f.nlink, f.uid, f.gid, f.size, "4096", f.blocks,
            whole(f.atime), whole(f.mtime), whole(f.ctime),
        ]  # fmt: skip
        target = os.readlink(f.path) if f.kind == "l" else b""
        behind = [target, b"", b"0", *[b"0"] * 4, b"", b"", b"0"]
        return b"\x1e".join([path, f.kind.encode(), *(n.encode() for n in numbers), *behind, b"\n"])

    return b"".join(map(record, found))


CSV_COLUMNS = "kind,mode,-,path,ino,dev,nlink,uid,gid,size_bytes,blocks,atime_s,mtime_s,ctime_s"


def csv(found: Sequence[Found]) -> bytes:
    def quoted(path: bytes) -> bytes:
        return b'"' + path.replace(b'"', b'""') + b'"' if re.search(rb'[\n\r,"]', path) else path

    return b"".join(
        f"{f.kind},{f.mode},nothing,".encode()
        + quoted(f.path)
        + f",{f.ino},{f.dev},{f.nlink},{f.uid},{f.gid},{f.size},{f.blocks},"
        f"{f.atime},{f.mtime},{f.ctime}\n".encode()
        for f in found
    )


@dataclass(frozen=True)
class Rendering:
    """A format, how a tree is written in it and what --columns it needs."""

    name: str
    write: Callable[[Sequence[Found]], bytes]
    columns: str | None = None


RENDERINGS = [
    Rendering("gpfs-list", gpfs),
    Rendering("lfs-find", lfs),
    Rendering("gufi-trace", gufi),
    Rendering("csv", csv, CSV_COLUMNS),
    # Last, for it says the least.
    Rendering("lester", lester),
]
