"""Putting, listing and staging 100 000 small files and one large one, beside tar, ls and cp.

Through `ghi` and a daemon of its own with an embedded PostgreSQL that syncs, as an operator would
have them. Needs root, to drop the page cache before each measurement; $BENCHMARK_DIR is where it
works, on ext4 or xfs.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks import measure

FILE_BYTES, FOLDER_FILES = 4096, 1000
LARGE_BYTES = 2 << 30
DATAMGR = (sys.executable, "-m", "datamgr.cli.main")


def run(arguments: argparse.Namespace) -> None:
    """Put, list, punch and stage; `--entries` / 10 small files, at most 100 000."""
    number = min(arguments.entries // 10, 100_000)
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    try:
        with _daemon(folder) as process:
            _small(folder, number, arguments.rounds, process)
            _large(folder, arguments.rounds, process)
    finally:
        shutil.rmtree(folder)


def _small(folder: Path, number: int, rounds: int, process: psutil.Process) -> None:
    puts, tars, stages, untars, synced, lists, plain = ([] for _ in range(7))
    for turn in range(rounds):
        tree = folder / "data" / f"small{turn}"
        _make(tree, number)
        tars.append(_cold(lambda tree=tree: _tar(folder, tree)))
        puts.append(_cold(lambda tree=tree: _ghi("put", "-R", tree)))
        _quietly("ls", "-lR", tree)
        plain.append(measure.seconds(lambda tree=tree: _quietly("ls", "-lR", tree)))
        lists.append(measure.seconds(lambda tree=tree: _ghi("ls", "-lR", tree)))
        punched = measure.seconds(lambda tree=tree: _ghi("punch", "-R", "--unguarded", tree))
        untars.append(_cold(lambda: _untar(folder)))
        synced.append(untars[-1] + measure.seconds(lambda: _quietly("sync", "-f", folder)))
        stages.append(_cold(lambda tree=tree: _ghi("stage", "-R", tree)))
        shutil.rmtree(tree)
        shutil.rmtree(folder / "plain")
    put, tar = statistics.median(puts), statistics.median(tars)
    measure.report(f"put of {number} files of 4 KB", s=put, tar_and_sha256_s=tar, ratio=put / tar)
    stage, untar = statistics.median(stages), statistics.median(untars)
    durable = statistics.median(synced)
    measure.report(
        "stage of the same",
        s=stage,
        tar_s=untar,
        ratio=stage / untar,
        tar_and_sync_s=durable,
        ratio_to_both=stage / durable,
    )
    measure.report("punch of the same", s=punched, files_a_second=number / punched)
    ghi, ls = statistics.median(lists), statistics.median(plain)
    measure.report("ghi ls -lR of the same", s=ghi, ls_s=ls, ratio=ghi / ls)
    rss = sum(p.memory_info().rss for p in [process]) / measure.MEBI
    measure.report("memory of the daemon afterwards", mib=rss)


def _large(folder: Path, rounds: int, process: psutil.Process) -> None:
    puts, copies, sums, proven = [], [], [], []
    for turn in range(rounds):
        file = folder / "data" / f"large{turn}"
        with file.open("wb") as out:
            block = os.urandom(1 << 20)
            for _ in range(LARGE_BYTES >> 20):
                out.write(block)
        copies.append(_cold(lambda file=file: _copy(file, folder / "copy")))
        # What an operator would type for as much certainty: the copy is read from the disk again.
        proven.append(copies[-1] + _cold(lambda: _quietly("sha256sum", folder / "copy")))
        sums.append(_cold(lambda file=file: _sum(file)))
        puts.append(_cold(lambda file=file: _ghi("put", file)))
        file.unlink()
        (folder / "copy").unlink()
    put, slower = statistics.median(puts), max(statistics.median(copies), statistics.median(sums))
    measure.report(
        "put of a file of 2 GiB",
        s=put,
        copy_s=statistics.median(copies),
        sha256_s=statistics.median(sums),
        speed_against_the_slower=slower / put,
        copy_and_sha256_of_it_s=statistics.median(proven),
        speed_against_both=statistics.median(proven) / put,
    )
    measure.report("memory of the daemon then", mib=process.memory_info().rss / measure.MEBI)


@contextmanager
def _daemon(folder: Path) -> Iterator[psutil.Process]:
    for name in ("data", "archive"):
        (folder / name).mkdir()
    config = folder / "datamgr.toml"
    config.write_text(
        f"state_dir = '{folder}/state'\n[tier.bench]\n"
        f"root = '{folder}/data'\narchive = '{folder}/archive'\n"
    )
    os.environ["DATAMGR_CONFIG"] = str(config)
    process = subprocess.Popen([*DATAMGR, "tier", "daemon"], stderr=subprocess.DEVNULL)
    try:
        while not (folder / "state/tier.sock").exists():
            if process.poll() is not None:
                raise SystemExit("the daemon did not start")
            time.sleep(0.1)
        _ghi("df")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _make(tree: Path, number: int) -> None:
    block = os.urandom(FILE_BYTES + number)
    for first in range(0, number, FOLDER_FILES):
        folder = tree / f"d{first // FOLDER_FILES:04}"
        folder.mkdir(parents=True)
        for n in range(first, min(first + FOLDER_FILES, number)):
            (folder / f"f{n:06}").write_bytes(block[n : n + FILE_BYTES])
    os.sync()


def _cold(work: Callable[[], object]) -> float:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    return measure.seconds(work)


def _tar(folder: Path, tree: Path) -> None:
    _quietly("tar", "-cf", folder / "plain.tar", "-C", tree, ".")
    _quietly("sha256sum", folder / "plain.tar")


def _untar(folder: Path) -> None:
    (folder / "plain").mkdir()
    _quietly("tar", "-xf", folder / "plain.tar", "-C", folder / "plain")


def _copy(source: Path, target: Path) -> None:
    _quietly("cp", "--reflink=never", source, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _sum(file: Path) -> None:
    """As a program in one thread does: by the library that put uses, too."""
    with file.open("rb") as opened:
        hashlib.file_digest(opened, "sha256")


def _ghi(*arguments: str | Path) -> None:
    _quietly(*DATAMGR, "ghi", *arguments)


def _quietly(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
