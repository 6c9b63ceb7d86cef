"""Random searches find what PostgreSQL finds in the same attributes as JSONB."""

import json
import os
import random
from typing import Any

import h5py
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from hdf5_tools.index import update
from hdf5_tools.index.index import Index

OBJECTS, FILES = 120, 5
VALUE = "<value>"
LETTERS = "abAB%_*\\é"  # what LIKE and the query language give a meaning, too


class Both:
    """The same objects in an index and in a table; without a long representation."""

    def __init__(self, index: Index, connection: sa.Connection) -> None:
        self._index = index
        self._connection = connection

    def ours(self, query: str) -> list[tuple[bytes, bytes]]:
        return sorted(self._index.search(query).paths())

    def theirs(self, condition: str, values: list[str]) -> list[tuple[bytes, bytes]]:
        for number in range(len(values)):
            condition = condition.replace(VALUE, f":v{number}", 1)
        question = sa.text(f"SELECT file, path FROM objects WHERE {condition}")
        rows = self._connection.execute(question, {f"v{n}": v for n, v in enumerate(values)})
        return sorted((bytes(row.file), bytes(row.path)) for row in rows)


@pytest.fixture(scope="module")
def both(server: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("equal")
    chance = random.Random(7)
    rows = []
    for number in range(FILES):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            for at in range(OBJECTS):
                found: dict[str, Any] = {}
                if chance.random() < 0.9:
                    length = chance.choice((0, 1, 2, 3, 3, 4, 6))
                    found["text"] = "".join(chance.choices(LETTERS, k=length))
                if chance.random() < 0.8:
                    found["whole"] = chance.randrange(-5, 6)
                if chance.random() < 0.8:
                    found["real"] = chance.choice((-1.5, 0.0, 0.1, 0.25, 1e300, 3.0))
                if chance.random() < 0.5:
                    found["either"] = chance.choice((3, 0.25, "ab", "3"))
                file.create_group(f"g{at}").attrs.update(found)
                path = os.fsencode(folder / f"{number}.h5")
                rows.append({"file": path, "path": f"/g{at}".encode(), "a": json.dumps(found)})
    for number in range(FILES):  # in several segments, the last one newer than two of before
        update.update(folder / "index", [bytes(folder / f"{number}.h5")])
    update.update(folder / "index", [bytes(folder / "0.h5"), bytes(folder / "3.h5")])
    with server.connect() as connection:
        connection.execute(
            sa.text("CREATE TEMPORARY TABLE objects (file bytea, path bytea, a jsonb)")
        )
        connection.execute(
            sa.text("INSERT INTO objects VALUES (:file, :path, CAST(:a AS jsonb))"), rows
        )
        yield Both(Index.open(folder / "index"), connection)


def quoted(text: str) -> str:
    """As the query language has it: a star is a star."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace('"', '\\"')


def liked(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# Each is a query, and a condition on `a` with the values that stand in it where VALUE is.
Pair = tuple[str, str, list[str]]
names = st.sampled_from(["text", "whole", "real", "either", "absent"])


def typed(name: str, kind: str) -> str:
    """Comparisons are with values of the same kind only; anything else is false, not unknown."""
    return f"jsonb_typeof(a->'{name}') IS NOT DISTINCT FROM '{kind}'"


@st.composite
def of_numbers(draw: st.DrawFn) -> Pair:
    name = draw(names)
    operator = draw(st.sampled_from(["=", "<", "<=", ">", ">="]))
    number = draw(st.sampled_from(["0", "3", "-2", "0.1", "0.25", "2.5", "-1e3", "1e300", "5.0"]))
    value = f"CASE WHEN {typed(name, 'number')} THEN (a->>'{name}')::numeric END"
    condition = f"(coalesce({value} {operator} CAST({VALUE} AS numeric), false))"
    return f"{name} {operator} {number}", condition, [number]


@st.composite
def of_texts(draw: st.DrawFn) -> Pair:
    name = draw(names)
    parts = draw(st.lists(st.text(st.sampled_from(LETTERS), max_size=4), min_size=1, max_size=3))
    folds = draw(st.booleans())
    query = f'{name} {"~" if folds else "="} "{"*".join(map(quoted, parts))}"'
    # Only ASCII letters have a case here.
    both_sides = 'lower({} COLLATE "C")' if folds else "{}"
    condition = (
        f"({typed(name, 'string')} AND {both_sides.format(f'''(a->>'{name}')''')} "
        f"LIKE {both_sides.format(f'CAST({VALUE} AS text)')})"
    )
    return query, condition, ["%".join(map(liked, parts))]


@st.composite
def of_order(draw: st.DrawFn) -> Pair:
    name = draw(names)
    operator = draw(st.sampled_from(["<", "<=", ">", ">="]))
    text = draw(st.text(st.sampled_from(LETTERS), max_size=3))
    condition = (
        f"({typed(name, 'string')} AND "
        f"convert_to(a->>'{name}', 'UTF8') {operator} convert_to({VALUE}, 'UTF8'))"
    )
    return f'{name} {operator} "{quoted(text)}"', condition, [text]


having = names.map(lambda name: (f"has {name}", f"(a ? '{name}')", list[str]()))


def joined(word: str) -> Any:
    def join(left: Pair, right: Pair) -> Pair:
        return (
            f"({left[0]} {word} {right[0]})", f"({left[1]} {word} {right[1]})",
            [*left[2], *right[2]],
        )  # fmt: skip

    return join


def opposite(inner: Pair) -> Pair:
    return f"not ({inner[0]})", f"(NOT {inner[1]})", inner[2]


leaves = st.one_of(of_numbers(), of_texts(), of_order(), having)
pairs = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(joined("and"), inner, inner),
        st.builds(joined("or"), inner, inner),
        inner.map(opposite),
    ),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(pair=pairs)
def test_searches_equal_postgresql(both: Both, pair: Pair) -> None:
    query, condition, values = pair
    ours = both.ours(query)
    groups = [hit for hit in ours if hit[1] != b"/"]  # root groups are no rows of the table
    assert groups == both.theirs(condition, values)
