"""What `hsi`, the client of HPSS, is told, and what it answers.

Sources: HSI man page and "HSI Reference Manual" 8.3 (Gleicher Enterprises, mgleicher.us/hsi):
`-q` for no greeting, `-P` for lists on standard output, `put local : remote`, `get local : remote`,
`in FILE` for commands from a file; "HSI Return Codes" there. The lines of `ls -P` are as NERSC's
public script `generate_sorted_list_for_hpss.py` reads them:

    FILE<tab>path<tab>bytes<tab>bytes<tab>111+1121698225<tab>EG010100<tab>4<tab>0<tab>1<tab>dates

where 111 is the tape mark, and what follows the plus the bytes behind it; the last two characters
of a volume are its side. A file over several volumes has them separated by commas; one that is
still on HPSS' disks has neither.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamgr import process
from datamgr.errors import UnavailableError
from tiering.archive.store import AbsentError, ArchiveError, Place

_SIDE = 2  # characters of a volume's name
_NOT_THERE = b"HPSS_ENOENT"


@dataclass(frozen=True)
class Listed:
    """A file in HPSS; `place` is None while it is on no tape."""

    path: str
    size_bytes: int
    place: Place | None


@dataclass(frozen=True)
class Hsi:
    """The client; `cwd` is where local names are looked for."""

    program: str
    options: tuple[str, ...]
    timeout_s: float
    cwd: Path

    def ask(self, command: str, *, some_may_fail: bool = False) -> bytes:
        """What a command printed; with `some_may_fail` also if a part of it failed.

        Raises:
            AbsentError: HPSS says that there is no such file.
            ArchiveError: it failed for another reason.
        """
        argv = [self.program, *self.options, "-q", "-P", command]
        try:
            return process.run(argv, timeout_s=self.timeout_s, cwd=self.cwd)
        except process.ProgramError as error:
            if some_may_fail and error.said:
                return error.said
            if _NOT_THERE in error.said:
                raise AbsentError("HPSS has no such file") from error
            raise ArchiveError(f"{error} ({command.split(maxsplit=1)[0]})") from error
        except UnavailableError as error:
            raise ArchiveError(str(error)) from error


def parse_listing(output: bytes) -> Iterator[Listed]:
    """The files in what `ls -P` printed; whatever else is in it is none of theirs.

    Raises:
        ArchiveError: a line that is a file's cannot be understood.
    """
    for line in output.decode(errors="replace").splitlines():
        fields = line.split("\t")
        if fields[0].strip() != "FILE":
            continue
        try:
            path, size = fields[1].strip(), int(fields[2])
            yield Listed(path, size, _place(fields[4].strip(), fields[5].strip()))
        except (IndexError, ValueError) as error:
            raise ArchiveError(f"hsi told something that is no list: {line[:200]!r}") from error


def _place(position: str, volumes: str) -> Place | None:
    mark, plus, rest = position.partition("+")
    volume = volumes.split(",", maxsplit=1)[0]
    if not plus or len(volume) <= _SIDE:
        return None
    return Place(volume[:-_SIDE], (int(mark), int(rest)))
