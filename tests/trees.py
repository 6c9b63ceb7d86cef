"""Directory trees to be scanned: a fixed one, hostile ones, very deep and very wide ones."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAY_S = 86_400
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# Each is one legal file name; together they hold what shells, terminals, SQL, CSV and UTF-8
# decoders stumble over.
HOSTILE_NAMES = [
    b"new\nline", b"\n", b"tab\tand\rreturn", b"quote'single", b'quote"double', b"back\\slash",
    b"\\", b"\\x41", b"\\N", b"\\.", b"-rf", b"--", b" ", b"  lead and trail  ", b"one,two;three",
    b"$HOME `id` $(id)", b"* ? [a-z] {b,c}", b"%s %d %n", b"{0}", b"\x01\x02\x07\x1b[31mred\x1b[0m",
    b"\x7f", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", "é".encode(),
    "e\u0301".encode(), "\u202egpj.exe".encode(), b"\xef\xbb\xbfbom", b"n" * 255, b"\xff" * 255,
    b"[red]markup[bold]", b"<img src=x onerror=alert(1)>", b"NULL", b"a'; DROP TABLE scan; --",
    "\u2028".encode(), b"...", b".hidden",
]  # fmt: skip


def make_file(
    path: Path,
    size_bytes: int = 0,
    *,
    owner: tuple[int, int] | None = None,
    read_s: int | None = None,
    changed_s: int | None = None,
) -> Path:
    """A file whose every byte is written; `read_s` and `changed_s` are seconds since 1970."""
    path.write_bytes(b"x" * size_bytes)
    return describe(path, owner=owner, read_s=read_s, changed_s=changed_s)


def make_sparse(path: Path, size_bytes: int, **described: object) -> Path:
    """A file of this apparent size that takes no block."""
    path.touch()
    os.truncate(path, size_bytes)
    return describe(path, **described)  # type: ignore[arg-type]


def describe(
    path: Path,
    *,
    owner: tuple[int, int] | None = None,
    read_s: int | None = None,
    changed_s: int | None = None,
) -> Path:
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)
    if read_s is not None and changed_s is not None:
        os.utime(path, (read_s, changed_s), follow_symlinks=False)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(path.parent, os.O_PATH)
        try:
            # By descriptor, because the address of a socket may have 107 bytes only.
            listening.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)
    return path


def hostile(root: Path) -> None:
    """Every hostile name as a directory with a file of that name, which has as many bytes."""
    for name in HOSTILE_NAMES:
        directory = os.path.join(os.fsencode(root), name)
        os.mkdir(directory)
        Path(os.fsdecode(os.path.join(directory, name))).write_bytes(b"x" * len(name))


@contextmanager
def chain(root: Path, levels: int, name: bytes) -> Iterator[None]:
    """Directories one inside the other, with an empty file `leaf` in the last; any length.

    Built and removed by steps, since no path of more than 4096 bytes is taken by a call.
    """
    descriptors = [os.open(root, os.O_RDONLY)]
    try:
        for _ in range(levels):
            os.mkdir(name, dir_fd=descriptors[-1])
            descriptors.append(os.open(name, os.O_RDONLY, dir_fd=descriptors[-1]))
        os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=descriptors[-1]))
        yield
    finally:
        if len(descriptors) == levels + 1:
            os.unlink("leaf", dir_fd=descriptors[-1])
        while len(descriptors) > 1:
            os.close(descriptors.pop())
            os.rmdir(name, dir_fd=descriptors[-1])
        os.close(descriptors[0])


def make_many_files(directory: Path, number: int) -> None:
    """`number` empty files f0, f1, ..."""
    here = os.open(directory, os.O_RDONLY)
    try:
        for index in range(number):
            os.close(os.open(f"f{index}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, dir_fd=here))
    finally:
        os.close(here)


def make_many_directories(directory: Path, number: int) -> None:
    """`number` empty directories."""
    here = os.open(directory, os.O_RDONLY)
    try:
        for index in range(number):
            os.mkdir(f"d{index}", dir_fd=here)
    finally:
        os.close(here)


ADA, BOB, CY = 60_001, 60_002, 60_003
COSMO, LAB = 60_101, 60_102


def fixed(root: Path, now_s: int) -> None:
    """A small tree with one of everything that a scan has to tell apart; needs root.

    Projects to register: `alpha`, `alpha/nested/inner` inside it, and `root.parent` above.
    """
    for name in ("alpha/data", "alpha/nested/inner/deep", "beta/sub", "gamma/empty/emptier"):
        (root / name).mkdir(parents=True)
    day = {days: now_s - days * DAY_S for days in (1, 20, 60, 120, 300, 500, 1000)}
    ada, bob, cy = (ADA, COSMO), (BOB, COSMO), (CY, LAB)
    alpha, inner, beta, gamma = (
        root / name for name in ("alpha", "alpha/nested/inner", "beta", "gamma")
    )
    make_file(alpha / "data/a.dat", 10_000, owner=ada, read_s=day[1], changed_s=day[20])
    make_file(alpha / "data/b.dat", 4096, owner=bob, read_s=day[60], changed_s=day[120])
    make_file(alpha / "empty.txt", 0, owner=ada, read_s=day[300], changed_s=day[500])
    make_sparse(alpha / "data/sparse.img", 5 * GIB, owner=bob, read_s=day[1], changed_s=day[1000])
    holey = make_sparse(alpha / "data/holey.img", MIB)
    with holey.open("r+b") as file:
        file.write(b"x" * 4096)
    describe(holey, owner=ada, read_s=day[20], changed_s=day[20])
    make_file(inner / "result.h5", 8193, owner=cy, read_s=day[120], changed_s=day[300])
    make_file(inner / "deep/old", 1, owner=cy, read_s=-DAY_S, changed_s=-365 * DAY_S)
    make_file(beta / "future", 12_288, owner=bob, read_s=now_s + 400 * DAY_S,
              changed_s=now_s + 400 * DAY_S)  # fmt: skip
    # Links within a directory, within a project and across projects.
    linked = make_file(beta / "linked", 20_000, owner=ada, read_s=day[500], changed_s=day[1000])
    os.link(linked, beta / "linked-again")
    os.link(linked, beta / "sub/linked-below")
    os.link(linked, inner / "linked-from-beta")
    os.link(alpha / "data/a.dat", beta / "sub/a-of-alpha")
    # What is neither file nor directory. A target of up to 59 bytes needs no block on ext4.
    (gamma / "short").symlink_to("../alpha")
    (gamma / "long").symlink_to("x" * 100)
    (gamma / "loop").symlink_to("loop")
    os.mkfifo(gamma / "fifo")
    make_socket(gamma / "socket")
    os.mknod(gamma / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for directory, owner in ((alpha, ada), (inner, cy), (beta, bob), (gamma / "empty", cy)):
        os.chown(directory, *owner)
    for path, _, _ in os.walk(root):
        os.utime(path, (day[20], day[20]))
    for name in ("short", "long", "loop"):
        describe(gamma / name, owner=cy, read_s=day[60], changed_s=day[60])
    for name in ("fifo", "socket", "null"):
        describe(gamma / name, owner=(0, 0), read_s=day[1], changed_s=day[1])
    os.sync()
