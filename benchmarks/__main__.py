"""`python -m benchmarks [NAME...]`: run benchmarks and print their ratios.

Sizes are parameters: the defaults end in some minutes on two cores; docs/benchmarks.md names
the commands of the figures that stand there.
"""

import argparse
import importlib

NAMES = (
    "walk",
    "memory",
    "rollup",
    "find",
    "spark",
    "importer",
    "startup",
    "perms",
    "append",
    "hdf5_search",
    "tiering",
    "tape",
    "hdf5_harvest",
    "hdf5_mirror",
    "web",
)


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of the real tree")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; medians are printed")
    parser.add_argument(
        "--stores",
        type=int,
        nargs="*",
        default=[1_000_000, 5_000_000, 20_000_000],
        help="entries of the synthetic scan stores",
    )
    parser.add_argument(
        "--full", action="store_true", help="web: the store of a centre instead of a tenth of it"
    )
    parser.add_argument("--web-seconds", type=float, default=2.0, help="web: how long each page")
    parser.add_argument("--web-pages", nargs="*", metavar="WORDS", help="web: these pages only")
    parser.add_argument("--web-workers", type=int, default=1, help="web: processes that serve")
    parser.add_argument(
        "--web-store", metavar="DIR", help="web: keep the store there, and reuse it"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
        importlib.import_module(f"benchmarks.{name}").run(arguments)


if __name__ == "__main__":
    main()
