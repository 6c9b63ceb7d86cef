"""Timing, peak memory and the way results are printed."""

import statistics
import threading
import time
from collections.abc import Callable

import psutil

MEBI = 1024 * 1024


def seconds(work: Callable[[], object]) -> float:
    """How long the work took."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def alternated(rounds: int, *works: Callable[[], object]) -> list[float]:
    """The median seconds of each, run in turn so that noise meets all alike."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for times, work in zip(taken, works, strict=True):
            times.append(seconds(work))
    return [statistics.median(times) for times in taken]


def peak_rss_bytes(work: Callable[[], object], interval_s: float = 0.02) -> int:
    """Highest sum of resident memory over this process and all below it, while it works."""
    peak, done = 0, threading.Event()
    itself = psutil.Process()

    def sample() -> None:
        nonlocal peak
        while not done.wait(interval_s):
            total = 0
            for process in [itself, *itself.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        work()
    finally:
        done.set()
        sampler.join()
    return peak


def report(claim: str, **figures: object) -> None:
    """One line a result: the claim, then its figures."""
    shown = ", ".join(
        f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
    )
    print(f"{claim}: {shown}", flush=True)
