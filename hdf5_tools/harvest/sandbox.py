"""A harvest in a process of its own, with bounded memory and time: a damaged file may kill HDF5.

`python -m hdf5_tools.harvest.sandbox` reads paths from standard input (length, bytes) and answers
each with a marshalled FileRecord (length, bytes).
"""

import fcntl
import gc
import itertools
import marshal
import os
import resource
import select
import signal
import struct
import sys
from collections import deque
from contextlib import suppress
from typing import Self

from datamgr import process
from hdf5_tools.harvest.records import FileRecord, Kind, ObjectRecord

MEMORY_BYTES = 4 << 30
PATIENCE_S = 60.0
LIFE_S = 120  # for one file, should nobody be left who has patience
_LENGTH = struct.Struct("<q")
_PIPE_BYTES = 1 << 20  # of answers, which the process makes while others are read


class Sandbox:
    """Harvests one file after the other; several may be asked for before the first is answered.

    One that kills HDF5, or keeps it too long, is answered with the reason; those that were asked
    for behind it are asked for again, in a new process.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES, patience_s: float = PATIENCE_S) -> None:
        self._memory_bytes = memory_bytes
        self._patience_s = patience_s
        self._process: process.Process | None = None
        self._asked: deque[bytes] = deque()
        self._asked_bytes = self._room_bytes = 0
        self._incoming = bytearray()
        self._answered: deque[FileRecord] = deque()

    def harvest(self, path: bytes) -> FileRecord:
        """The record of a file, if nothing else was asked for.

        With a reason if HDF5 refuses, crashes or does not end.
        """
        self.ask(path)
        return self.answer()

    @property
    def unanswered(self) -> int:
        """How many files the process still has to look at, as far as is known."""
        return len(self._asked)

    def has_room(self, path: bytes) -> bool:
        """Whether it may be asked for now: no question may wait in the pipe for an answer."""
        return not self._asked or self._asked_bytes + len(_question(path)) <= self._room_bytes

    def ask(self, path: bytes) -> None:
        """Harvest a file, for which there is room."""
        self._asked.append(path)
        self._asked_bytes += len(_question(path))
        self._send(_question(path))

    def answer(self) -> FileRecord:
        """The record of the file that was asked for first; with a reason as `harvest` says."""
        while not self._answered:
            self._receive(self._patience_s)
        return self._answered.popleft()

    def collect(self) -> None:
        """Take the answers that are there."""
        while self._asked and self._receive(0):
            pass

    def close(self) -> None:
        """End the process."""
        self._incoming.clear()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in process.pipes(self._process):
                with suppress(BrokenPipeError):  # what it was not told any more
                    pipe.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> process.Process:
        argv = [sys.executable, "-m", __name__, str(self._memory_bytes), str(LIFE_S)]
        # In a session of its own: Ctrl-C is for us, who end it.
        started = process.spawn(argv, stdin=process.PIPE, stdout=process.PIPE, new_session=True)
        questions, answers = process.pipes(started)
        with suppress(OSError):  # some may not; then it waits more often
            fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        # Half: a page of a pipe that was read in part still takes a whole one.
        self._room_bytes = fcntl.fcntl(questions, fcntl.F_GETPIPE_SZ) // 2
        return started

    def _send(self, questions: bytes) -> None:
        self._process = self._process or self._started()
        pipe = process.pipes(self._process)[0]
        with suppress(BrokenPipeError):  # it has ended, as reading will tell
            pipe.write(questions)
            pipe.flush()

    def _receive(self, patience_s: float) -> bool:
        """Take what comes; False: nothing is there, and there was to be no waiting for it."""
        if self._process is None:
            raise ValueError("nothing was asked for")
        answers = process.pipes(self._process)[1].fileno()
        if not select.select([answers], [], [], patience_s)[0]:
            if patience_s:
                self._blame(f"HDF5 did not end in {patience_s:g} s")
            return patience_s > 0
        part = os.read(answers, _PIPE_BYTES)
        if not part:
            code = self._process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._blame(f"HDF5 crashed ({how})")
        incoming = self._incoming
        incoming += part
        while len(incoming) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(incoming)[0]
            if len(incoming) < end:
                break
            self._answered.append(_unpacked(incoming[_LENGTH.size : end]))
            del incoming[:end]
            self._asked_bytes -= len(_question(self._asked.popleft()))
        return True

    def _blame(self, reason: str) -> None:
        """The process is no use: because of the first file, for it answers one after the other."""
        self.close()
        self._asked_bytes -= len(_question(self._asked.popleft()))
        self._answered.append(FileRecord([], reason, may_pass=True))
        if self._asked:
            self._send(b"".join(map(_question, self._asked)))


def _question(path: bytes) -> bytes:
    return _LENGTH.pack(len(path)) + path


_KINDS = tuple(Kind)
_FILES_PER_COLLECTION = 1000


def _packed(record: FileRecord) -> bytes:
    """By marshal, for it takes half the time of pickle, and both ends are one Python."""
    objects = [(o.path, int(o.kind), o.form, o.attributes) for o in record.objects]
    return marshal.dumps((record.reason, record.may_pass, objects))


def _unpacked(answer: bytearray) -> FileRecord:
    reason, may_pass, objects = marshal.loads(answer)  # noqa: S302
    found = [ObjectRecord(o[0], _KINDS[o[1]], o[2], o[3]) for o in objects]
    return FileRecord(found, reason, may_pass)


def main() -> None:
    """Answer until standard input ends."""
    from hdf5_tools.harvest.either import EitherHarvester

    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What HDF5 prints is neither an answer nor for the user, who gets a reason.
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    harvester, life_s = EitherHarvester(), int(sys.argv[2])
    # Records have no cycles; looking for some takes a third of the time where files are large.
    gc.disable()
    for number in itertools.count(1):
        length = sys.stdin.buffer.read(_LENGTH.size)
        if not length:
            break
        path = sys.stdin.buffer.read(_LENGTH.unpack(length)[0])
        signal.alarm(life_s)
        answer = _packed(harvester.harvest(path))
        signal.alarm(0)
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()
        if number % _FILES_PER_COLLECTION == 0:
            gc.collect()


if __name__ == "__main__":
    main()
