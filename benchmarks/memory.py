"""The walk's memory is flat: five times the entries need at most 1.3 times the memory."""

import argparse

from benchmarks import measure, trees, walk


def run(arguments: argparse.Namespace) -> None:
    """Peak memory of all processes for a tree and for one five times as large."""
    peaks = []
    for entries in (arguments.entries, 5 * arguments.entries):
        with trees.tree(entries) as root:
            peaks.append(measure.peak_rss_bytes(lambda root=root: walk.scan(root, 2)))
    measure.report(
        f"peak memory of the walk of {5 * arguments.entries} entries / of {arguments.entries}",
        ratio=peaks[1] / peaks[0],
        small_mib=peaks[0] // measure.MEBI,
        large_mib=peaks[1] // measure.MEBI,
    )
