"""Harvesting HDF5 attributes: beside h5py's visititems, and a C program on libhdf5.

Files of 50 objects with 10 attributes each, of the oldest and of the newest format, from a warm
cache. The C program needs the Debian packages gcc, libhdf5-dev and hdf5-helpers (h5cc).
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure
from hdf5_tools.harvest import by_h5py
from hdf5_tools.harvest.by_header import Harvester
from hdf5_tools.harvest.sandbox import Sandbox
from hdf5_tools.index import update
from hdf5_tools.index.builder import FileStamp

OBJECTS, ATTRIBUTES = 50, 10
BATCH = 100  # files in a turn of each way, so that other work on the machine meets all alike


def run(arguments: argparse.Namespace) -> None:
    """As many files as make half of the entries attributes, and each way in turn."""
    files = max(arguments.entries // (2 * OBJECTS * ATTRIBUTES), 1)
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        program = _compiled(folder)
        for libver in ("earliest", "latest"):
            paths = [_written(folder / f"{libver}{number}.h5", libver) for number in range(files)]
            assert repr(Harvester().harvest(paths[0])) == repr(by_h5py.harvest(paths[0]))
            _compare(libver, paths, program, arguments.rounds)
    finally:
        shutil.rmtree(folder)


def _compiled(folder: Path) -> Path | None:
    if not (shutil.which("h5cc") and shutil.which("gcc")):
        print("hdf5_harvest: no h5cc and gcc; without the C program", flush=True)
        return None
    source, program = Path(__file__).with_suffix(".c"), folder / "harvest"
    subprocess.run(["h5cc", "-O2", "-o", program, source], check=True, cwd=folder)
    return program


def _written(path: Path, libver: str) -> Path:
    chance = random.Random(path.name)
    with h5py.File(path, "w", libver=libver) as file:
        for number in range(OBJECTS):
            attributes = file.create_group(f"scan{number:02}").attrs
            attributes["serial"] = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=10))
            attributes["sample"] = f"sample {chance.randrange(500)}"
            attributes["title"] = f"run {chance.randrange(10**6)}"
            attributes["site"] = np.bytes_(chance.choice(("als", "nersc", "slac")))
            for k in range(3):
                attributes[f"x{k}"] = chance.random()
                attributes[f"n{k}"] = chance.randrange(10_000)
    return path


def _compare(libver: str, paths: list[Path], program: Path | None, rounds: int) -> None:
    harvester = Harvester()
    batches = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]

    def ours(batch: list[Path]) -> int:
        return sum(
            len(found.attributes) for path in batch for found in harvester.harvest(path).objects
        )

    def visititems(batch: list[Path]) -> int:
        return sum(map(_visited, batch))

    def native(batch: list[Path]) -> int:
        listed = "".join(f"{path}\n" for path in batch)
        answer = subprocess.run([program], input=listed, text=True, stdout=-1, check=True)
        return int(answer.stdout)

    with ExitStack() as stack:

        def sandboxed(workers: int) -> Callable[[list[Path]], int]:
            """As an index is made: several questions under way in each process."""
            sandboxes = [stack.enter_context(Sandbox()) for _ in range(workers)]

            def harvest(batch: list[Path]) -> int:
                stamps = (FileStamp(bytes(path), 0, 0, 0, 0) for path in batch)
                records = update.harvested(stamps, sandboxes)
                return sum(len(found.attributes) for _, r in records for found in r.objects)

            return harvest

        ways = {
            "ours": ours,
            "sandboxed": sandboxed(1),
            "two_sandboxes": sandboxed(2),
            "visititems": visititems,
        }
        if program is not None:
            ways["C"] = native
        for way in ways.values():  # the files into the cache, the process up
            assert way(paths) == len(paths) * OBJECTS * ATTRIBUTES
        times = [
            measure.alternated(1, *(partial(way, batch) for way in ways.values()))
            for _ in range(rounds)
            for batch in batches
        ]
    count = len(batches[0]) * OBJECTS * ATTRIBUTES
    speeds = {
        way: count / statistics.median(each)
        for way, each in zip(ways, zip(*times, strict=True), strict=True)
    }
    measure.report(
        f"harvest of {libver} files: attributes/s of ours / of the others",
        to_visititems=speeds["ours"] / speeds["visititems"],
        sandboxed_to_visititems=speeds["sandboxed"] / speeds["visititems"],
        two_sandboxes_to_visititems=speeds["two_sandboxes"] / speeds["visititems"],
        **({"to_C": speeds["ours"] / speeds["C"]} if program is not None else {}),
        **{f"{way} attributes/s": round(speed) for way, speed in speeds.items()},
    )


def _visited(path: Path) -> int:
    count = 0

    def visit(name: str, found: h5py.HLObject) -> None:
        nonlocal count
        count += len(dict(found.attrs.items()))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return count
