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
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
        importlib.import_module(f"benchmarks.{name}").run(arguments)


if __name__ == "__main__":
    main()
