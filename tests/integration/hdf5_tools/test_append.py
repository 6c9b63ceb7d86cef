"""A detector's file while it grows, and after its writer was killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamgr.errors import ConflictError
from hdf5_tools import append, recover
from tests.commands import call
from tests.integration.hdf5_tools import appender

WAYS = [("7", "plain", "1"), ("10", "plain", "4096"), ("10", "gzip", "4096")]


@contextmanager
def appending(path: Path, way: tuple[str, str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.hdf5_tools.appender", str(path), *way],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def require_numbered(frames: np.ndarray) -> None:
    wanted = np.arange(len(frames), dtype=np.uint32).reshape(-1, 1, 1)
    assert (frames == wanted).all()


def flushed(process: subprocess.Popen[str]) -> int:
    """What the process said last, after it was killed."""
    assert process.stdout is not None
    said = process.stdout.read().split("\n")[:-1]
    return int(said[-1]) if said else 0


@pytest.mark.soak
def test_killed_writers_keep_every_flushed_frame(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("full_soak")
    kills = request.config.getoption("kills") or (100 if full else 4)
    chance = random.Random(request.config.getoption("seed") or 1)
    for number, way in enumerate(WAYS):
        path, kept = tmp_path / f"{number}.h5", 0
        for _ in range(kills):
            with appending(path, way) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(chance.random() * 0.2)
                process.send_signal(signal.SIGKILL)
                process.wait()
                kept = max(kept, flushed(process))
            recover.recover(path)
            with h5py.File(path) as file:
                frames = append.frames_written(file["data"])
                assert file["data"].shape[0] == frames >= kept
                require_numbered(file["data"][max(0, frames - 50_000) :] - max(0, frames - 50_000))
            kept = frames
        with h5py.File(path, "r+", libver="latest") as file:
            with append.Writer(file["data"]) as writer:
                writer.append(appender.frame(frames))
            require_numbered(file["data"][()])


def test_a_reader_sees_only_frames_that_count(tmp_path: Path) -> None:
    path = tmp_path / "live.h5"
    with appending(path, WAYS[2]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with h5py.File(path, "r", libver="latest", swmr=True) as file:
            dataset, seen = file["data"], set()
            deadline = time.monotonic() + 60
            while len(seen) < 5 and time.monotonic() < deadline:
                frames = append.frames_written(dataset)
                dataset.refresh()
                require_numbered(dataset[:frames])
                seen.add(frames)
            assert len(seen) == 5


def test_a_file_under_way_is_not_recovered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "live.h5"
    with appending(path, WAYS[1]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ConflictError, match=f"written by process {process.pid}"):
            recover.recover(path)
        done = call(capfd, "hdf5", "recover", path)
        assert (done.exit_code, str(process.pid) in done.stderr) == (6, True)
        process.kill()
        process.wait()
    done = call(capfd, "hdf5", "recover", path, "--json")
    assert done.json["was_marked"]
    assert done.json["rows"][0]["dataset"] == "data"
    assert not call(capfd, "hdf5", "recover", path, "--json").json["was_marked"]


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x89HDF\r\n\x1a\n\x03"])
def test_what_is_no_hdf5_file_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    done = call(capfd, "hdf5", "recover", path)
    assert done.exit_code == 4
    assert "x.h5" in done.stderr
    assert path.read_bytes() == content
    assert call(capfd, "hdf5", "recover", tmp_path / "none.h5").exit_code == 3
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path, tmp_path / "pipe"):
        done = call(capfd, "hdf5", "recover", odd)
        assert (done.exit_code, "is no regular file" in done.stderr) == (4, True)
