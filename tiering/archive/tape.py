"""A model of a tape library over a directory, to measure what the order of requests costs.

Objects are files of the directory as in any other; on which volume and where each would be is
written in a catalogue beside them. A simulated clock adds up what one drive would take: nobody
waits, unless the model is to be in real time.

The drive is a full-height LTO-9. Sources: IBM TS4500 documentation, "Performance specifications
for LTO tape drives" (400 MB/s native; 17 s from load to ready; 30 s to unload; 45 s on average to
a record from the load point; 55 s on average to rewind) and "Supported tape drives" (18 TB).
LTO-9 writes 280 wraps (8 960 tracks, 32 at a time), to and fro over the length of the tape:
IBM, "Media optimization", and the LTO Consortium's table of generations. Derived: an average from
the load point is half the length, so the whole takes twice that. Assumed: 10 s for the robot to
exchange cartridges. Left out, for want of figures: stopping and starting.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiering.archive.posix import PosixDraft, PosixStore
from tiering.archive.store import ArchiveError, Place, Store

CATALOGUE = ".tapes.jsonl"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figures:
    """What a drive and its cartridges can do; times in seconds."""

    capacity_bytes: int = 18 * 10**12
    rate_bytes_per_s: int = 400 * 10**6
    wraps: int = 280
    load_s: float = 17.0
    unload_s: float = 30.0
    locate_s: float = 90.0  # over the whole length
    rewind_s: float = 110.0  # likewise
    exchange_s: float = 10.0


@dataclass
class Spent:
    """What the drive did, and how long in seconds."""

    mounts: int = 0
    locates: int = 0
    mounting_s: float = 0.0
    locating_s: float = 0.0
    transfer_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.mounting_s + self.locating_s + self.transfer_s


@dataclass
class Drive:
    """One drive, in which a volume is or none; positions are bytes from the front of a volume."""

    figures: Figures = field(default_factory=Figures)
    sleeps: bool = False
    spent: Spent = field(default_factory=Spent)
    volume: str = ""
    position: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def transfer(self, volume: str, position: int, length: int) -> None:
        """Read or write so many bytes of a volume."""
        with self._lock:
            self._mount(volume)
            self._locate(position)
            self.position += length
            self.spent.transfer_s += self._take(length / self.figures.rate_bytes_per_s)

    def _mount(self, volume: str) -> None:
        if self.volume == volume:
            return
        figures = self.figures
        taken = figures.exchange_s + figures.load_s
        if self.volume:
            taken += figures.rewind_s * self._along(self.position) + figures.unload_s
        self.volume, self.position = volume, 0
        self.spent.mounts += 1
        self.spent.mounting_s += self._take(taken)
        log.info("%s is mounted; the drive has worked %.0f s", volume, self.spent.total_s)

    def _locate(self, position: int) -> None:
        ahead = position - self.position
        if ahead == 0:
            return
        distance = abs(self._along(position) - self._along(self.position))
        taken = distance * self.figures.locate_s
        if ahead > 0:
            # Over a short piece it reads on.
            taken = min(taken, ahead / self.figures.rate_bytes_per_s)
        self.position = position
        self.spent.locates += 1
        self.spent.locating_s += self._take(taken)

    def _along(self, position: int) -> float:
        """Where over the length of the tape a position is, 0 to 1: every other wrap runs back."""
        wrap_bytes = self.figures.capacity_bytes / self.figures.wraps
        wrap, rest = divmod(position, wrap_bytes)
        part = rest / wrap_bytes
        return 1 - part if wrap % 2 else part

    def _take(self, seconds: float) -> float:
        if self.sleeps:
            time.sleep(seconds)
        return seconds


class TapeStore:
    """As `Store`: the objects of a directory, as if they were on tapes."""

    def __init__(self, folder: Path, figures: Figures | None = None, *, sleeps: bool = False):
        self.drive = Drive(figures or Figures(), sleeps)
        self._objects = PosixStore(folder)
        self._catalogue = folder / CATALOGUE
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._volume, self._end = 1, 0
        self._load()

    @property
    def folder(self) -> Path:
        """Where the objects are."""
        return self._objects.folder

    @property
    def copies(self) -> tuple[Store, ...]:
        """As `Store.copies`."""
        return (self,)

    def create(self, key: str) -> "TapeDraft":
        """As `Store.create`."""
        return TapeDraft(self, key, self._objects.create(key))

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """As `Store.read`, and the drive moves."""
        place = self.places([key]).get(key)
        for data in self._objects.read(key, offset, length, fresh=fresh):
            if place is not None:
                self.drive.transfer(place.volume, place.position[0] + offset, len(data))
            offset += len(data)
            yield data

    def size(self, key: str) -> int:
        """As `Store.size`; the tape need not move for it."""
        return self._objects.size(key)

    def delete(self, key: str) -> None:
        """As `Store.delete`; what was on the tape stays there as a gap."""
        self._objects.delete(key)

    def keys(self) -> Iterator[str]:
        """As `Store.keys`."""
        return (key for key in self._objects.keys() if not key.startswith("."))  # noqa: SIM118

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """As `Store.places`."""
        return {key: self._places[key] for key in keys if key in self._places}

    def written(self, key: str, size_bytes: int) -> None:
        """Append an object that is complete to the tape, and write down where.

        Raises:
            ArchiveError: the catalogue cannot be written.
        """
        with self._lock:
            place = self._append(key, size_bytes)
            line = {"key": key, "volume": place.volume, "position": place.position[0]}
            # A crash may have cut the line before off.
            text = b"\n%s\n" % json.dumps({**line, "size_bytes": size_bytes}).encode()
            try:
                with self._catalogue.open("ab") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise ArchiveError(f"cannot write {self._catalogue}: {error.strerror}") from error
        self.drive.transfer(place.volume, place.position[0], size_bytes)

    def _append(self, key: str, size_bytes: int) -> Place:
        if self._end and self._end + size_bytes > self.drive.figures.capacity_bytes:
            self._volume, self._end = self._volume + 1, 0
        place = Place(f"T{self._volume:05}L9", (self._end,))
        self._places[key] = place
        self._end += size_bytes
        return place

    def _load(self) -> None:
        """Read the catalogue; a line that a crash cut off is none."""
        try:
            lines = self._catalogue.read_bytes().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ArchiveError(f"cannot read {self._catalogue}: {error.strerror}") from error
        for line in filter(None, lines):
            try:
                known = json.loads(line)
                place = Place(known["volume"], (int(known["position"]),))
                number, end = int(place.volume[1:6]), place.position[0] + int(known["size_bytes"])
                self._places[known["key"]] = place
            except (ValueError, KeyError, TypeError) as error:
                log.warning("%s has a line that is none: %s", self._catalogue, error)
                continue
            self._volume, self._end = max((self._volume, self._end), (number, end))


class TapeDraft:
    """As `Draft`: spooled on the disk, and written to the tape as a whole."""

    def __init__(self, store: TapeStore, key: str, draft: PosixDraft) -> None:
        self._store, self._key, self._draft = store, key, draft
        self._size_bytes, self._is_settled = 0, False

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        self._draft.write(data)
        self._size_bytes += len(data)

    def read_back(self) -> tuple[None]:
        """As `Draft.read_back`."""
        return (None,)

    def settle(self) -> None:
        """As `Draft.settle`: it is on the tape, and without a name a gap."""
        if not self._is_settled:
            self._draft.settle()
            self._store.written(self._key, self._size_bytes)
            self._is_settled = True

    def commit(self) -> None:
        """As `Draft.commit`."""
        self.settle()
        self._draft.commit()

    def abandon(self) -> None:
        """As `Draft.abandon`."""
        self._draft.abandon()
