"""Growing datasets that are repeated by a receiver, and read there meanwhile."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamgr.errors import ConflictError, InvalidError, UnavailableError
from hdf5_tools import append, mirror
from tests import mounts
from tests.integration.hdf5_tools import mirroring
from tests.integration.hdf5_tools.mirroring import Wire, receiving

FRAME = (16, 8)


def main(url: str, local: str, token: str, frames: int, seed: int) -> None:
    """Append so many frames to two datasets; print how many the receiver is known to have."""
    chance = random.Random(seed)
    with mirror.stream(
        url, local, token_file=Path(token), buffer_bytes=1 << 22,
        when_slow=chance.choice(["block", "catch-up"]),
    ) as stream:  # fmt: skip
        stream.create("plain", FRAME, "u4", chunk_bytes=chance.choice([1, 4000, 1 << 20]))
        stream.create("packed", FRAME, "u4", chunk_bytes=50_000, gzip_level=1, shuffle=True)
        stream.set_attribute("plain", "seed", seed)
        stream.start()
        print("open", flush=True)
        plain, packed = (stream.writer(n, flush_frames=50) for n in ("plain", "packed"))
        for number in range(frames):
            plain.append(np.full(FRAME, number, np.uint32))
            packed.append(np.full(FRAME, number, np.uint32))
            if chance.random() < 0.002:
                plain.flush()
                packed.flush()
                stream.mirror.drain(60)
                print(number + 1, flush=True)
    print("closed", flush=True)


def writing(url: str, folder: Path, frames: int, seed: int) -> subprocess.Popen[str]:
    with (folder / "writer.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.hdf5_tools.test_mirror_stream", url,
             folder / "a.h5", folder / "token", str(frames), str(seed)],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n", (folder / "writer.log").read_text()
    return process


def require_numbered(path: Path, *, swmr: bool = False) -> int:
    """Every frame that counts is the one of its number; how many both datasets have."""
    with h5py.File(path, "r", libver="latest", swmr=swmr) as file:
        counts = []
        for name in ("plain", "packed"):
            frames = append.frames_written(file[name])
            file[name].refresh()
            wanted = np.arange(frames, dtype=np.uint32).reshape(-1, 1, 1)
            assert (file[name][:frames] == wanted).all()
            counts.append(frames)
        return min(counts)


def test_a_replica_is_read_while_it_grows(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        process = writing(receiver.url("run/a.h5"), tmp_path, 60_000, 1)
        seen: set[int] = set()
        while process.poll() is None:
            if (receiver.into / "run/a.h5.incomplete").exists():
                try:
                    seen.add(require_numbered(receiver.into / "run/a.h5.incomplete", swmr=True))
                except (FileNotFoundError, KeyError, OSError):
                    assert len(seen) <= 1 or process.wait(60) == 0
        process.communicate()
        assert process.returncode == 0, (tmp_path / "writer.log").read_text()
        assert len(seen) > 3
        assert require_numbered(receiver.into / "run/a.h5") == 60_000
        with h5py.File(receiver.into / "run/a.h5") as file:
            assert file["plain"].attrs["seed"] == 1
            assert file["plain"].shape == file["packed"].shape == (60_000, *FRAME)


def test_nobody_reads_a_replica_before_it_is_started(tmp_path: Path) -> None:
    """HDF5 would wait for hours for the checksum of what is not complete, or lock the file."""
    with receiving(tmp_path) as receiver:
        with mirror.stream(
            receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token"
        ) as stream:
            stream.create("plain", FRAME, "u4")
            stream.mirror.drain(60)
            shown = {path.name for path in receiver.into.iterdir()}
            assert shown == {".h5mirror", "a.h5.incomplete.new"}
            stream.start()
            stream.mirror.drain(60)
            with h5py.File(receiver.into / "a.h5.incomplete", libver="latest", swmr=True) as file:
                assert append.frames_written(file["plain"]) == 0
        assert {path.name for path in receiver.into.iterdir()} == {".h5mirror", "a.h5"}


def test_what_was_not_started_is_gone_after_a_crash(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        with mirror.stream(
            receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token"
        ) as stream:
            stream.create("plain", FRAME, "u4")
            stream.mirror.drain(60)
            receiver.end(kill=True)
            (receiver.into / "b.h5.incomplete.new").write_bytes(b"of nobody known: stays")
            receiver.start()
            stream.start()
            stream.mirror.drain(60)
            shown = {path.name for path in receiver.into.iterdir()}
            assert shown == {".h5mirror", "a.h5.incomplete", "b.h5.incomplete.new"}
        assert (receiver.into / "a.h5").exists()


@pytest.mark.soak
def test_replicas_have_every_frame_after_any_number_of_faults(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    rounds = request.config.getoption("kills") or (40 if full else 1)
    first = request.config.getoption("seed") or 1
    for seed in range(first, first + rounds):
        chance = random.Random(seed)
        with receiving(tmp_path) as receiver:
            wire = Wire(receiver.port)
            process = writing(receiver.url("a.h5", port=wire.port), tmp_path, 30_000, seed)
            try:
                mirroring.meddle(receiver, wire, process, chance, 12 if full else 6)
                log = (tmp_path / "writer.log").read_text()
                assert process.returncode == 0, (seed, log[-3000:])
            finally:
                process.kill()
                process.communicate()
            wire.close()
            assert require_numbered(receiver.into / "a.h5") == 30_000
            assert require_numbered(tmp_path / "a.h5") == 30_000
            (receiver.into / "a.h5").unlink()


@pytest.mark.soak
def test_killed_writers_leave_every_published_frame(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    kills = request.config.getoption("kills") or (40 if full else 2)
    first = request.config.getoption("seed") or 1
    with receiving(tmp_path, "--grace", "1s") as receiver:
        for seed in range(first, first + kills):
            chance = random.Random(seed)
            also_receiver = chance.random() < 0.4
            process = writing(receiver.url("a.h5"), tmp_path, 10_000_000, seed)
            time.sleep(chance.random() * 1.5)
            if also_receiver:
                receiver.end(kill=True)
            process.send_signal(signal.SIGKILL)
            said = process.communicate()[0].split("\n")[:-1]
            if also_receiver:
                receiver.start()
            else:
                mirroring.wait_until_settled(receiver)
            partial = receiver.into / "a.h5.incomplete"
            assert not (receiver.into / "a.h5").exists()
            if partial.exists() or said:
                assert require_numbered(partial) >= (int(said[-1]) if said else 0)
                partial.unlink()


def test_what_a_stream_does_not_take(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        options = {"token_file": tmp_path / "token", "buffer_bytes": 5 << 20}
        with pytest.raises(InvalidError, match="new file"):
            mirror.stream(receiver.url("a.h5"), tmp_path / "a.h5", "r+", **options)
        with mirror.stream(receiver.url("a.h5"), tmp_path / "a.h5", **options) as stream:
            with pytest.raises(InvalidError, match="not object"):
                stream.create("text", (), h5py.string_dtype())
            with pytest.raises(InvalidError, match="more buffer_bytes"):
                stream.create("large", (3000, 2000), "u1")
            with pytest.raises(InvalidError, match="not object"):
                stream.set_attribute("/", "x", [None])
            with pytest.raises(InvalidError):
                stream.set_attribute("/none", "x", 1)
            stream.create("fine", (3,), "S4")
            with pytest.raises(ConflictError, match="was not started"):
                stream.writer("fine")
            stream.start()
            with pytest.raises(ConflictError, match="was started"):
                stream.create("late", (3,), "u1")
            stream.writer("fine").append(np.array([b"a", b"b", b"c"], "S4"))
        with h5py.File(receiver.into / "a.h5") as file:
            assert file["fine"][0].tolist() == [b"a", b"b", b"c"]


@pytest.mark.root
def test_a_full_disk_at_the_receiver(tmp_path: Path) -> None:
    with mounts.tmpfs(tmp_path / "replicas", 3 << 20), receiving(tmp_path) as receiver:
        stream = mirror.stream(
            receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token", patience_s=2.0
        )
        stream.create("plain", FRAME, "u4", chunk_bytes=100_000)
        stream.create("packed", FRAME, "u4", gzip_level=1)
        stream.start()
        writers = [stream.writer(name, flush_frames=100) for name in ("plain", "packed")]
        for number in range(20_000):
            for writer in writers:
                writer.append(np.full(FRAME, number, np.uint32))
        with pytest.raises(UnavailableError, match="incomplete"):
            stream.close()
        assert require_numbered(tmp_path / "a.h5") == 20_000
        assert not (receiver.into / "a.h5").exists()
        # The receiver lives on, and serves what has room.
        (receiver.into / "a.h5.incomplete").unlink()
        with mirror.open(
            receiver.url("b.h5"), tmp_path / "b.h5", token_file=tmp_path / "token"
        ) as file:
            mirroring.step(file, 0)
        assert (receiver.into / "b.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))
