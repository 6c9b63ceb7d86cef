"""Mirroring an HDF5 file: beside the local file alone, and beside two answers for each write."""

import argparse
import multiprocessing
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure
from hdf5_tools import append, mirror
from hdf5_tools.mirror.address import Url
from hdf5_tools.mirror.blocks import BlockFollower
from hdf5_tools.mirror.protocol import Kind
from hdf5_tools.mirror.session import Session, WhenSlow

# Bytes of a frame → how many.
SIZES = {2048: 200_000, 128 * 1024: 4_000, 2 * measure.MEBI: 250}
PACES_MB_S = (100, 400)
DELAY_S = 0.0005  # each way
_fork = multiprocessing.get_context("fork")


def run(arguments: argparse.Namespace) -> None:
    """On loopback, and over a line with a round trip of one millisecond."""
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        with _receiver(folder) as port:
            url = f"h5m://127.0.0.1:{port}/a.h5"
            for size, count in SIZES.items():
                _beside_local(folder, url, size, count, arguments.rounds)
            _packed(folder, url, arguments.rounds)
            for pace in PACES_MB_S:
                _paced(folder, url, pace, arguments.rounds)
            with _delayed(port) as far, _two_answers(folder) as peer, _delayed(peer) as far_peer:
                for size, count in ((2048, 100_000), (128 * 1024, 4_000)):
                    _beside_two_answers(folder, far, far_peer, size, count, arguments.rounds)
    finally:
        shutil.rmtree(folder)


def _frame(size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 1 << 12, size // 2).astype(np.uint16)


def _append(file: h5py.File, frame: np.ndarray, count: int, gzip_level: int | None = None) -> None:
    dataset = append.create(
        file, "data", frame.shape, frame.dtype, gzip_level=gzip_level, shuffle=bool(gzip_level)
    )
    with append.Writer(dataset) as writer:
        for _ in range(count):
            writer.append(frame)


def _local_and_mirrored(
    folder: Path, url: str, rounds: int, work: Callable[[h5py.File], None]
) -> tuple[float, float, float]:
    """Seconds of the file alone, of the mirrored one, and of the latter until it is closed."""
    path, held = folder / "a.h5", []

    def alone() -> None:
        with h5py.File(path, "w", libver="latest") as file:
            work(file)
        path.unlink()

    def mirrored() -> None:
        begin = time.perf_counter()
        with mirror.open(
            url, path, token_file=folder / "token", when_slow=WhenSlow.CATCH_UP, libver="latest"
        ) as file:
            work(file)
            file.flush()
            held.append(time.perf_counter() - begin)
        path.unlink()

    alone_s, mirrored_s = measure.alternated(rounds, alone, mirrored)
    return alone_s, mirrored_s, sorted(held)[len(held) // 2]


def _beside_local(folder: Path, url: str, size: int, count: int, rounds: int) -> None:
    frame = _frame(size)
    alone_s, mirrored_s, held_s = _local_and_mirrored(
        folder, url, rounds, lambda file: _append(file, frame, count)
    )
    measure.report(
        f"mirror, frames of {size} bytes as fast as they go: s of mirrored / of local alone",
        until_replica_is_compared=mirrored_s / alone_s,
        until_last_flush=held_s / alone_s,
        alone_mb_s=round(size * count / alone_s / 1e6),
        mirrored_mb_s=round(size * count / mirrored_s / 1e6),
    )


def _packed(folder: Path, url: str, rounds: int) -> None:
    frame = _frame(128 * 1024)
    alone_s, mirrored_s, held_s = _local_and_mirrored(
        folder, url, rounds, lambda file: _append(file, frame, 2_000, gzip_level=1)
    )
    measure.report(
        "mirror, frames of 131072 bytes through shuffle and gzip: s of mirrored / of local alone",
        until_replica_is_compared=mirrored_s / alone_s,
        until_last_flush=held_s / alone_s,
        alone_mb_s=round(2_000 * frame.nbytes / alone_s / 1e6),
    )


def _paced(folder: Path, url: str, pace_mb_s: int, rounds: int) -> None:
    """A detector that gives a frame at fixed times, for three seconds."""
    frame = _frame(128 * 1024)
    count = int(pace_mb_s * 3e6 / frame.nbytes)

    def work(file: h5py.File) -> None:
        dataset = append.create(file, "data", frame.shape, frame.dtype)
        with append.Writer(dataset) as writer:
            begin = time.perf_counter()
            for number in range(count):
                early = begin + number * frame.nbytes / pace_mb_s / 1e6 - time.perf_counter()
                if early > 0:
                    time.sleep(early)
                writer.append(frame)

    alone_s, mirrored_s, held_s = _local_and_mirrored(folder, url, rounds, work)
    measure.report(
        f"mirror, a detector of {pace_mb_s} MB/s: s of mirrored / of local alone",
        until_replica_is_compared=mirrored_s / alone_s,
        until_last_flush=held_s / alone_s,
        alone_s=alone_s,
    )


def _beside_two_answers(
    folder: Path, far: int, far_peer: int, size: int, count: int, rounds: int
) -> None:
    data = _frame(size).tobytes()
    few = 500

    def ours() -> None:
        with (folder / "b.h5").open("w+b") as file:
            session = Session(
                Url.parse(f"h5m://127.0.0.1:{far}/b.h5"),
                (folder / "token").read_bytes(),
                BlockFollower(file.fileno()),
                when_slow=WhenSlow.BLOCK,
                action="write",
            )
            for number in range(count):
                session.put(Kind.WRITE, number * size, data)
            session.drain(600)
            session.abandon()

    def peer() -> None:
        with socket.create_connection(("127.0.0.1", far_peer)) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(few):
                link.sendall(number.to_bytes(32, "little"))
                _exactly(link, _ANSWER)
                link.sendall(data)
                _exactly(link, _ANSWER)

    (folder / "size").write_text(str(size))
    ours_s, peer_s = measure.alternated(rounds, ours, peer)
    measure.report(
        f"mirror, writes of {size} bytes over 1 ms: writes/s of ours / of two answers a write",
        ratio=(peer_s / few) / (ours_s / count),
        ours_per_s=round(count / ours_s),
        two_answers_per_s=round(few / peer_s),
    )


# As HDF5's own mirror driver does: a header, an answer of 274 bytes, the data, another answer.
_ANSWER = 274


def _exactly(link: socket.socket, count: int) -> bytes:
    return link.recv(count, socket.MSG_WAITALL)


def _answer(listener: socket.socket, folder: Path) -> None:
    while True:
        link, _ = listener.accept()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = int((folder / "size").read_text())
        with (folder / "peer").open("wb", buffering=0) as file, link:
            while header := _exactly(link, 32):
                link.sendall(bytes(_ANSWER))
                os.pwrite(
                    file.fileno(), _exactly(link, size), size * int.from_bytes(header, "little")
                )
                link.sendall(bytes(_ANSWER))


def _two_answers(folder: Path) -> AbstractContextManager[int]:
    return _serving(_answer, folder)


def _delayed(to_port: int) -> AbstractContextManager[int]:
    """A port behind which everything takes `DELAY_S` each way, however much is under way."""
    return _serving(_delay, to_port)


@contextmanager
def _serving(serve: Callable[..., None], *arguments: object) -> Iterator[int]:
    """The port at which a process of its own serves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = _fork.Process(target=serve, args=(listener, *arguments), daemon=True)
        process.start()
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            process.join()


def _delay(listener: socket.socket, to_port: int) -> None:
    sys.setswitchinterval(1e-4)
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", to_port))
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line: queue.Queue[tuple[float, bytes]] = queue.Queue(256)
            threading.Thread(target=_take, args=(one, line), daemon=True).start()
            threading.Thread(target=_give, args=(other, line), daemon=True).start()


def _take(one: socket.socket, line: "queue.Queue[tuple[float, bytes]]") -> None:
    data = b"-"
    while data:
        try:
            data = one.recv(1 << 18)
        except OSError:
            data = b""
        line.put((time.perf_counter() + DELAY_S, data))


def _give(other: socket.socket, line: "queue.Queue[tuple[float, bytes]]") -> None:
    while True:
        due, data = line.get()
        early = due - time.perf_counter()
        if early > 0:
            time.sleep(early)
        try:
            if not data:
                other.shutdown(socket.SHUT_RDWR)
                return
            other.sendall(data)
        except OSError:
            return


@contextmanager
def _receiver(folder: Path) -> Iterator[int]:
    (folder / "token").write_text("0123456789abcdef")
    (folder / "token").chmod(0o600)
    (folder / "replicas").mkdir()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "datamgr.cli.main", "hdf5", "mirror", "serve", "--listen",
            "127.0.0.1:0", "--into", folder / "replicas", "--token-file", folder / "token",
            "--grace", "1s",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[2].rpartition(":")[2])
    finally:
        process.terminate()
        process.communicate()
