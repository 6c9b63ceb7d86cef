"""Replicas while links break and either side is killed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamgr.errors import ConflictError, UnavailableError
from hdf5_tools import mirror
from hdf5_tools.mirror.address import Url
from hdf5_tools.mirror.blocks import BlockFollower
from hdf5_tools.mirror.protocol import Kind
from hdf5_tools.mirror.session import Session
from hdf5_tools.mirror.writer import Tee
from tests.integration.hdf5_tools import mirroring
from tests.integration.hdf5_tools.mirroring import Receiver, Wire, receiving


@contextmanager
def writing(url: str, folder: Path, steps: int, seed: int) -> Iterator[subprocess.Popen[str]]:
    libver = "latest" if seed % 2 else "earliest"
    with (folder / "writer.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.hdf5_tools.mirroring", url,
             folder / "a.h5", folder / "token", str(steps), str(seed), libver],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n", (folder / "writer.log").read_text()
        yield process
    finally:
        process.kill()
        process.communicate()


def require_no_more_than_incomplete(receiver: Receiver, synchronised: int) -> None:
    """What a killed writer leaves: marked by its name, and whole up to a flush."""
    partial = receiver.into / "a.h5.incomplete"
    assert not (receiver.into / "a.h5").exists()
    if partial.exists():
        assert mirroring.require_consistent(partial) >= synchronised
    else:
        assert synchronised < 0


@pytest.mark.soak
def test_replicas_are_the_same_after_any_number_of_faults(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    rounds = request.config.getoption("kills") or (60 if full else 2)
    first = request.config.getoption("seed") or 1
    for seed in range(first, first + rounds):
        chance = random.Random(seed)
        with receiving(tmp_path) as receiver:
            wire = Wire(receiver.port)
            url = receiver.url("a.h5", port=wire.port)
            with writing(url, tmp_path, 150, seed) as process:
                mirroring.meddle(receiver, wire, process, chance, 12 if full else 6)
                log = (tmp_path / "writer.log").read_text()
                assert process.returncode == 0, (seed, log[-3000:])
            wire.close()
            replica = receiver.into / "a.h5"
            assert replica.read_bytes() == (tmp_path / "a.h5").read_bytes(), seed
            assert mirroring.require_consistent(replica) == 149
            replica.unlink()


@pytest.mark.soak
def test_killed_writers_leave_what_was_flushed(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    kills = request.config.getoption("kills") or (60 if full else 3)
    first = request.config.getoption("seed") or 1
    with receiving(tmp_path, "--grace", "1s") as receiver:
        for seed in range(first, first + kills):
            chance = random.Random(seed)
            also_receiver = chance.random() < 0.4
            with writing(receiver.url("a.h5"), tmp_path, 100_000, seed) as process:
                time.sleep(chance.random() * 1.5)
                if also_receiver:
                    receiver.end(kill=True)
                process.send_signal(signal.SIGKILL)
                process.wait()
                assert process.stdout is not None
                said = process.stdout.read().split("\n")[:-1]
            if also_receiver:
                receiver.start()
            else:
                mirroring.wait_until_settled(receiver)
            require_no_more_than_incomplete(receiver, int(said[-1]) if said else -1)
            with h5py.File(tmp_path / "b.h5", "w") as other:
                mirroring.step(other, 0)
            # The next writer begins anew, and what the last one left is kept aside.
            with mirror.open(
                receiver.url("a.h5"), tmp_path / "b.h5", "a", token_file=tmp_path / "token"
            ) as file:
                mirroring.step(file, 1)
            assert (receiver.into / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
            (receiver.into / "a.h5").unlink()


def test_a_slow_link_holds_nobody_up(tmp_path: Path) -> None:
    """Twelve times the buffer is written at once; what changed twice is sent as it is at last."""
    with receiving(tmp_path) as receiver:
        wire = Wire(receiver.port, bytes_per_s=40e6)
        with mirror.open(
            receiver.url("a.h5", port=wire.port), tmp_path / "a.h5",
            token_file=tmp_path / "token", buffer_bytes=1 << 22,
        ) as file:  # fmt: skip
            for number in range(12):
                file[f"{number}"] = np.zeros(4 << 20, np.uint8)
                mirroring.step(file, number)
            file.flush()
            assert wire.forwarded < 20 << 20
        assert (receiver.into / "a.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
        wire.close()


def test_a_writer_waits_for_a_slow_link_if_told_to(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        wire = Wire(receiver.port, bytes_per_s=40e6)
        with mirror.open(
            receiver.url("a.h5", port=wire.port), tmp_path / "a.h5", when_slow="block",
            token_file=tmp_path / "token", buffer_bytes=1 << 22,
        ) as file:  # fmt: skip
            for number in range(12):
                file[f"{number}"] = np.zeros(4 << 20, np.uint8)
            file.flush()
            assert not file.mirror.is_catching_up
            assert wire.forwarded > 40 << 20
        wire.close()


def test_an_old_writer_does_not_come_back_over_a_new_one(tmp_path: Path) -> None:
    """Once its grace is over, the name belongs to whoever asks first."""
    options = {"token_file": tmp_path / "token", "patience_s": 5.0}
    with receiving(tmp_path, "--grace", "1s") as receiver:
        wire = Wire(receiver.port)
        old = mirror.open(receiver.url("a.h5", port=wire.port), tmp_path / "old.h5", **options)
        mirroring.step(old, 0)
        old.sync()
        wire.is_down = True
        wire.cut()
        mirroring.wait_until_settled(receiver)
        with mirror.open(receiver.url("a.h5"), tmp_path / "new.h5", **options) as new:
            new["x"] = 1
            wire.is_down = False
            with pytest.raises(ConflictError, match="another writer"):
                old.close()
            assert mirroring.require_consistent(tmp_path / "old.h5") == 0
        wire.close()
        assert (receiver.into / "a.h5").read_bytes() == (tmp_path / "new.h5").read_bytes()
        aside = list(receiver.into.glob("a.h5.incomplete-*"))
        assert [mirroring.require_consistent(path) for path in aside] == [0]


@pytest.mark.parametrize("mode", ["bytes", "stream"])
def test_answers_that_were_lost_with_the_link_are_asked_for_again(
    tmp_path: Path, mode: str
) -> None:
    with receiving(tmp_path) as receiver:
        wire = Wire(receiver.port)
        url, token = receiver.url("a.h5", port=wire.port), tmp_path / "token"
        if mode == "bytes":
            file = mirror.open(url, tmp_path / "a.h5", token_file=token)
            mirroring.step(file, 0)
            file.sync()
        else:
            file = mirror.stream(url, tmp_path / "a.h5", token_file=token)
            file.create("data", (1000,), "u1", chunk_bytes=1000)
            file.start()
            file.writer("data").extend(np.ones((500, 1000), np.uint8))
            file.mirror.drain(60)
        wire.is_mute = True
        closing = threading.Thread(target=file.close)
        closing.start()
        time.sleep(1)
        assert not (receiver.into / "a.h5").exists()
        wire.is_mute = False
        wire.cut()
        closing.join(30)
        assert not closing.is_alive()
        assert file.mirror.error is None
        assert (receiver.into / "a.h5").exists()
        wire.close()


def test_what_is_not_written_any_more_is_compared_before_the_end(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        file = mirror.open(receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token")
        file["large"] = np.random.default_rng(1).random((4, 1000, 1000))
        file.sync()
        follower = file.mirror.follower
        assert isinstance(follower, BlockFollower)
        deadline = time.monotonic() + 30
        while follower.uncompared and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not follower.uncompared
        file["large"][0, 0, 0] = 1
        file.sync()
        assert follower.uncompared <= 3
        file.close()
        assert (receiver.into / "a.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_what_changes_in_a_replica_is_found_at_the_end(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        with mirror.open(
            receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token"
        ) as file:
            file["large"] = np.random.default_rng(1).random((4, 1000, 1000))
            file.sync()
            with (receiver.into / "a.h5.incomplete").open("r+b") as replica:
                replica.seek(20_000_000)
                replica.write(b"changed")
        assert (receiver.into / "a.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_what_was_cut_off_and_grown_over_meanwhile(tmp_path: Path) -> None:
    """While it catches up the file gets shorter and longer again: what lay between is zeros."""
    with receiving(tmp_path) as receiver:
        wire = Wire(receiver.port)
        file = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
        session = Session(
            Url.parse(receiver.url("a", port=wire.port)), mirroring.TOKEN.encode(),
            BlockFollower(file), buffer_bytes=0, action="write",
        )  # fmt: skip
        with contextlib.closing(Tee(file, session)) as tee:
            tee.write(b"x" * (9 << 20))
            session.drain(60)
            wire.bytes_per_s = 1e6
            tee.write(b"y" * (9 << 20))
            assert session.is_catching_up
            tee.truncate((1 << 20) + 5)
            tee.seek(8 << 20)
            tee.write(b"z" * 1000)
            wire.bytes_per_s = 0
            tee.finish()
        assert (receiver.into / "a").read_bytes() == (tmp_path / "a").read_bytes()
        wire.close()


class _Overtaken(BlockFollower):
    """A writer changes each block in the moment after it was read to be sent, once."""

    write_again: Callable[[int], None]

    def __init__(self, file: int) -> None:
        super().__init__(file)
        self.overtaken: set[int] = set()

    def read(self, target: int, part: int) -> memoryview:
        data = memoryview(bytes(super().read(target, part)))
        if part not in self.overtaken:
            self.overtaken.add(part)
            self.write_again(part)
        return data


def test_what_is_written_while_it_is_caught_up_with_is_sent_again(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        file = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
        os.pwrite(file, b"x" * (5 << 20), 0)
        follower = _Overtaken(file)
        session = Session(
            Url.parse(receiver.url("a")), mirroring.TOKEN.encode(), follower,
            buffer_bytes=0, action="write",
        )  # fmt: skip

        def write_again(part: int) -> None:
            os.pwrite(file, b"y" * 10, (part << 20) + 7)
            session.put(Kind.WRITE, (part << 20) + 7, b"y" * 10)

        follower.write_again = write_again
        with contextlib.closing(Tee(file, session)) as tee:
            with session.lock:
                session.is_catching_up = True
                follower.mark(0, range(5))
                follower.touch(0, range(5))
            session.drain(60)
            assert follower.overtaken == set(range(5))
            tee.finish()
        assert (receiver.into / "a").read_bytes() == (tmp_path / "a").read_bytes()


def test_links_with_tls_break_too(tmp_path: Path) -> None:
    """TLS notices damage by itself, and both sides end the connection."""
    with receiving(tmp_path, *mirroring.certificate(tmp_path)) as receiver:
        wire = Wire(receiver.port)
        with mirror.open(
            receiver.url("a.h5", port=wire.port, scheme="h5ms"), tmp_path / "a.h5",
            token_file=tmp_path / "token", buffer_bytes=1 << 22,
        ) as file:  # fmt: skip
            for number in range(60):
                mirroring.step(file, number)
                file.flush()
                if number % 10 == 3:
                    wire.damage()
                elif number % 10 == 8:
                    wire.cut()
                time.sleep(0.02)
        assert (receiver.into / "a.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
        file = mirror.open(
            receiver.url("b.h5", scheme="h5ms"), tmp_path / "b.h5",
            token_file=tmp_path / "token", patience_s=1.0,
        )  # fmt: skip
        mirroring.step(file, 0)
        file.sync()
        receiver.end()  # which does not wait for a connection that has nothing
        assert mirroring.require_consistent(receiver.into / "b.h5.incomplete") == 0
        with pytest.raises(UnavailableError):
            file.close()
        receiver.start()
        wire.close()
