"""HDF5 in a process of its own, with bounded memory and time: a damaged file may kill it.

`python -m hdf5_tools.harvest.sandbox` reads paths from standard input (length, bytes) and answers
each with a pickled FileRecord (length, bytes).
"""

import io
import os
import pickle
import resource
import select
import signal
import struct
import sys
from contextlib import suppress
from typing import Self

from datamgr import process
from hdf5_tools.harvest.records import FileRecord, Refused

MEMORY_BYTES = 4 << 30
PATIENCE_S = 60.0
_LENGTH = struct.Struct("<q")


class Sandbox:
    """Harvests by h5py; one file at a time."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, patience_s: float = PATIENCE_S) -> None:
        self._memory_bytes = memory_bytes
        self._patience_s = patience_s
        self._process: process.Process | None = None

    def harvest(self, path: bytes) -> FileRecord:
        """The record of a file; with a reason if HDF5 refuses, crashes or does not end."""
        started = self._process = self._process or self._started()
        questions, answers = process.pipes(started)
        try:
            questions.write(_LENGTH.pack(len(path)) + path)
            questions.flush()
            length = _LENGTH.unpack(self._read(answers.fileno(), _LENGTH.size))[0]
            record: FileRecord = pickle.loads(self._read(answers.fileno(), length))  # noqa: S301
            return record
        except TimeoutError:
            self.close()
            return FileRecord([], f"HDF5 did not end in {self._patience_s:g} s")
        except (EOFError, BrokenPipeError):
            code = started.wait()
            self.close()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return FileRecord([], f"HDF5 crashed ({how})")

    def close(self) -> None:
        """End the process."""
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
        argv = [sys.executable, "-m", __name__, str(self._memory_bytes)]
        return process.spawn(argv, stdin=process.PIPE, stdout=process.PIPE)

    def _read(self, descriptor: int, length: int) -> bytes:
        parts = io.BytesIO()
        while parts.tell() < length:
            if not select.select([descriptor], [], [], self._patience_s)[0]:
                raise TimeoutError
            part = os.read(descriptor, min(1 << 20, length - parts.tell()))
            if not part:
                raise EOFError
            parts.write(part)
        return parts.getvalue()


def main() -> None:
    """Answer until standard input ends."""
    from hdf5_tools.harvest import by_h5py

    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What HDF5 prints is neither an answer nor for the user, who gets a reason.
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    while length := sys.stdin.buffer.read(_LENGTH.size):
        path = sys.stdin.buffer.read(_LENGTH.unpack(length)[0])
        try:
            record = by_h5py.harvest(path)
        except Refused as refusal:
            record = FileRecord([], str(refusal))
        except MemoryError:
            record = FileRecord([], "HDF5 needs too much memory for it")
        answer = pickle.dumps(record)
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    main()
