"""Appending frames to HDF5: beside bare write() calls, and beside resize and assign."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure
from hdf5_tools import append

# Bytes of a frame → frames of the bare and the fast way, frames of the naive one.
SIZES = {2048: (200_000, 10_000), 128 * 1024: (8_000, 2_000), 2 * measure.MEBI: (500, 50)}


def run(arguments: argparse.Namespace) -> None:
    """Frames of three sizes, the three ways by turns."""
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        for size, (many, few) in SIZES.items():
            _compare(folder, size, many, few, arguments.rounds)
    finally:
        shutil.rmtree(folder)


def _compare(folder: Path, size: int, many: int, few: int, rounds: int) -> None:
    frame = np.random.default_rng(1).integers(0, 1 << 16, size // 2).astype(np.uint16)

    def bare() -> None:
        with (folder / "bare").open("wb", buffering=0) as file:
            for _ in range(many):
                file.write(frame)
        (folder / "bare").unlink()

    def ours() -> None:
        with h5py.File(folder / "ours.h5", "w", libver="latest") as file:
            dataset = append.create(file, "data", frame.shape, frame.dtype)
            with append.Writer(dataset) as writer:
                for _ in range(many):
                    writer.append(frame)
        (folder / "ours.h5").unlink()

    def naive() -> None:
        with h5py.File(folder / "naive.h5", "w", libver="latest") as file:
            dataset = file.create_dataset(
                "data", (0, *frame.shape), frame.dtype, maxshape=(None, *frame.shape), chunks=True
            )
            for number in range(few):
                dataset.resize(number + 1, axis=0)
                dataset[number] = frame
        (folder / "naive.h5").unlink()

    bare_s, ours_s, naive_s = measure.alternated(rounds, bare, ours, naive)
    measure.report(
        f"append, frames of {size} bytes: frames/s of ours / of bare write()",
        ratio=bare_s / ours_s,
        to_naive=(naive_s / few) / (ours_s / many),
        ours_per_s=round(many / ours_s),
        bare_per_s=round(many / bare_s),
        naive_per_s=round(few / naive_s),
    )
