"""Numbers with units: compared in whatever unit the files name."""

import os
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamgr.errors import InvalidError
from hdf5_tools.index import query, update
from hdf5_tools.index.index import Index
from tests.commands import call

# Said without what is under test: dimension, factor, offset (in kelvin, metre, second).
UNITS: dict[str, tuple[str, Fraction, Fraction]] = {
    "s": ("time", Fraction(1), Fraction(0)),
    "ms": ("time", Fraction(1, 1000), Fraction(0)),
    "minute": ("time", Fraction(60), Fraction(0)),
    "µs": ("time", Fraction(1, 10**6), Fraction(0)),
    "mm": ("length", Fraction(1, 1000), Fraction(0)),
    "m": ("length", Fraction(1), Fraction(0)),
    "K": ("temperature", Fraction(1), Fraction(0)),
    "degC": ("temperature", Fraction(1), Fraction(27315, 100)),
}
NONSENSE = ["arbitrary", "", "m**9**9**9", "9" * 50, "__import__('os')", "s" * 5000, "\udc80"]
VALUES = [0, 1, 60, 0.5, 0.1, 100, 500, 1000, -1.5, 20, 293.15, float("nan")]


class Corpus:
    """Without a long representation, for hypothesis to print."""

    def __init__(self, index: Index, objects: dict[bytes, tuple[list[Any], str | None]]) -> None:
        self.index = index
        self.objects = objects


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Values of `x` in one file and another, each with its unit if it has one."""
    folder = tmp_path_factory.mktemp("units")
    chance = random.Random(1)
    objects = {}
    for name in ("a.h5", "b.h5"):
        with h5py.File(folder / name, "w") as file:
            for number in range(150):
                values = chance.choices(VALUES, k=chance.choice((1, 1, 2)))
                unit = chance.choice([*UNITS, *UNITS, *NONSENSE])
                group = file.create_group(f"{name[0]}{number}")
                kind = "f8" if any(value % 1 for value in values) else "i8"
                group.attrs["x"] = np.array(values, kind)
                if chance.random() < 0.4:
                    group.attrs["x_units"] = unit.encode("utf-8", "surrogateescape")
                    group.attrs["units"] = chance.choice(list(UNITS))  # of something else
                elif chance.random() < 0.8:
                    blank = chance.choice(("", " "))  # as fixed strings have it
                    group.attrs["units"] = (unit + blank).encode("utf-8", "surrogateescape")
                else:
                    unit = ""
                objects[os.fsencode(group.name)] = (values, unit if unit in UNITS else None)
    update.update(folder / "index", [bytes(folder / "a.h5")])
    update.update(folder / "index", [bytes(folder / "b.h5")])
    return Corpus(Index.open(folder / "index"), objects)


def fulfils(values: list[Any], unit: str | None, operator: str, number: str, asked: str) -> bool:
    if unit is None or UNITS[unit][0] != UNITS[asked][0]:
        return False
    _, factor, offset = UNITS[asked]
    _, into, less = UNITS[unit]
    bound = float((Fraction(number) * factor + offset - less) / into)
    compared = {
        "=": [v == bound for v in values], "<": [v < bound for v in values],
        ">=": [v >= bound for v in values],
    }  # fmt: skip
    return not any(compared["="]) if operator == "!=" else any(compared[operator])


@settings(max_examples=300, deadline=None)
@given(
    operator=st.sampled_from(["=", "!=", "<", ">="]),
    number=st.sampled_from(["0", "1", "0.5", "100", "500", "0.1", "-1.5", "20", "1e3", "293.15"]),
    asked=st.sampled_from(list(UNITS)),
    space=st.sampled_from(["", " "]),
)
def test_numbers_are_compared_in_the_units_of_the_files(
    corpus: Corpus, operator: str, number: str, asked: str, space: str
) -> None:
    wanted = [
        path
        for path, (values, unit) in corpus.objects.items()
        if fulfils(values, unit, operator, number, asked)
    ]
    found = corpus.index.search(f"x {operator} {number}{space}{asked}").paths()
    assert sorted(path for _, path in found) == sorted(wanted)


def test_units_among_other_conditions(corpus: Corpus) -> None:
    def found(text: str) -> set[bytes]:
        return {path for _, path in corpus.index.search(text).paths()}

    within = found("x >= 500 ms and x < 1 minute")
    assert within == found("x >= 0.5 s") & found("x < 60000 ms")
    assert within
    assert found("x in (100 ms, 1 m)") == found("x = 0.1 s") | found('`x` = 1000 "mm"')
    assert found("x = 100 ms or x = 1 m") == found("x in (100 ms, 1 m)")
    assert not found("x > 0 kg")
    assert found("x > 0") > found("x > 0 s")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x > 5 parsnips", "no unit 'parsnips'"),
        ("x > 5 m**9**9**9", "no unit"),
        ("x in (5 s, 3 parsnips)", "no unit 'parsnips'"),
        ("@ndim > 3 s", "has no unit"),
        ("x > 5 s y = 3", "here `and`"),
        ("x > 5 y = 3", "here `and`"),
        ("x > 5 has y", "here `and`"),
    ],
)
def test_what_is_no_unit_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(said)):
        query.parse(text)


def test_the_command_takes_units(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("data", (3,), "i2")
        data.attrs["exposure"], data.attrs["exposure_units"] = 0.75, "s"
    update.update(tmp_path / "index", [bytes(tmp_path / "x.h5")])
    search = ("hdf5", "search", tmp_path / "index")
    assert call(capfd, *search, "exposure > 500 ms", "--json").json["matches"] == 1
    assert call(capfd, *search, "exposure > 500 s", "--json").json["matches"] == 0
    done = call(capfd, *search, "exposure > 500 parsnips")
    assert (done.exit_code, "parsnips" in done.stderr) == (4, True)


def test_pint_is_imported_by_queries_with_units_only() -> None:
    program = (
        "import sys; from hdf5_tools.index import index, query; query.parse('x > 5'); "
        "assert 'pint' not in sys.modules; query.parse('x > 5 s'); assert 'pint' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
