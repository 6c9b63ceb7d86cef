"""Searching five million attributes: beside PostgreSQL (JSONB, GIN, pg_trgm) and SQLite.

Wants the Debian package postgresql (its server, for pg_trgm) and root, to run it as `postgres`.
"""

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import string
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks import measure
from hdf5_tools.harvest.records import FileRecord, Kind, ObjectRecord
from hdf5_tools.index import container, manifest
from hdf5_tools.index.assemble import assemble
from hdf5_tools.index.columns import Builder, FileStamp
from hdf5_tools.index.index import Index

OBJECTS_PER_FILE, ATTRIBUTES = 50, 10
REPEATS = 30
Hits = list[tuple[Any, Any]]


def run(arguments: argparse.Namespace) -> None:
    """Seven questions to each, with the paths of what is found; a new value every time."""
    objects = max(arguments.entries // 2, OBJECTS_PER_FILE)  # 1 000 000 entries: 500 000 objects
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    folder.chmod(0o755)
    try:
        records = list(_records(objects))
        index = _index(folder / "index", records)
        with _postgres(folder) as server, sqlite3.connect(folder / "sqlite") as file:
            _fill_postgres(server, records)
            _fill_sqlite(file, records)
            _report_size(folder, server, objects)
            _compare(index, server, file, [a for _, _, a in records])
    finally:
        shutil.rmtree(folder)


def _records(objects: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    chance = random.Random(1)
    for number in range(objects):
        attributes: dict[str, Any] = {
            "serial": "".join(chance.choices(string.ascii_lowercase, k=10)),
            "sample": f"sample {chance.randrange(500)}",
            "title": f"{chance.choice(('MgFe', 'NaCl'))} run {chance.randrange(10**6)}",
            "site": chance.choice(("als", "nersc", "slac")),
        }
        attributes |= {f"x{k}": chance.random() for k in range(3)}
        attributes |= {f"n{k}": chance.randrange(10_000) for k in range(3)}
        run, scan = divmod(number, OBJECTS_PER_FILE)
        yield f"/data/beamline/run{run:06}.h5", f"/entry/scan{scan:02}", attributes


def _index(folder: Path, records: list[tuple[str, str, dict[str, Any]]]) -> Index:
    kinds = {str: "string", float: "float64", int: "int64"}
    builder = Builder()
    for first in range(0, len(records), OBJECTS_PER_FILE):
        found = [
            ObjectRecord(
                path.encode(), Kind.GROUP, ("group", None),
                [
                    (n.encode(), (kinds[type(v)], ()), (v.encode() if isinstance(v, str) else v,))
                    for n, v in attributes.items()
                ],
            )
            for _, path, attributes in records[first : first + OBJECTS_PER_FILE]
        ]  # fmt: skip
        builder.add(FileStamp(records[first][0].encode(), 1, first, 1, 1), FileRecord(found))
    folder.mkdir()
    columns = builder.columns()
    container.write(folder / "1.segment", assemble(columns))
    entry = manifest.Entry("1.segment", None, 1, len(records), columns.attributes)
    manifest.store(folder, manifest.Manifest((entry,), 1))
    opened = [measure.seconds(lambda: Index.open(folder)) for _ in range(5)]
    measure.report("open of the index", ms=1000 * statistics.median(opened))
    return Index.open(folder)


@contextmanager
def _postgres(folder: Path) -> Iterator[Any]:
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not servers:
        raise SystemExit("hdf5_search needs a PostgreSQL server: apt-get install postgresql")
    data = folder / "postgres"
    data.mkdir()
    shutil.chown(data, "postgres")
    data.chmod(0o700)

    def call(*argv: str) -> None:
        command = ["runuser", "-u", "postgres", "--", *argv]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    call(str(servers[-1] / "initdb"), "-D", str(data), "--auth=trust", "-E", "UTF8", "--locale=C")
    control = (str(servers[-1] / "pg_ctl"), "-D", str(data), "-w")
    options = f"-k {data} -c listen_addresses= -c shared_buffers=2GB -c maintenance_work_mem=1GB"
    call(*control, "-l", str(data / "log"), "-o", options, "start")
    try:
        server = psycopg2.connect(host=str(data), user="postgres", dbname="postgres")
        server.autocommit = True
        yield server.cursor()
    finally:
        call(*control, "-m", "immediate", "stop")


def _fill_postgres(server: Any, records: list[tuple[str, str, dict[str, Any]]]) -> None:
    lines = _copied(records)
    server.execute("CREATE EXTENSION pg_trgm")
    server.execute("CREATE TABLE objects (file text, path text, a jsonb)")
    with lines as content:
        server.copy_expert("COPY objects FROM STDIN", content)
    for index in (
        "GIN (a jsonb_path_ops)", "(((a->>'x0')::float8))", "((a->>'serial') text_pattern_ops)",
        "GIN ((a->>'serial') gin_trgm_ops)",
    ):  # fmt: skip
        method = "GIN " if index.startswith("GIN") else ""
        server.execute(
            f"CREATE INDEX ON objects USING {method or 'btree '}{index.removeprefix('GIN')}"
        )
    server.execute("VACUUM ANALYZE objects")


@contextmanager
def _copied(records: list[tuple[str, str, dict[str, Any]]]) -> Iterator[Any]:
    """The rows as COPY takes them."""
    with tempfile.TemporaryFile("w+") as lines:
        lines.writelines(f"{f}\t{p}\t{json.dumps(a)}\n" for f, p, a in records)
        lines.seek(0)
        yield lines


def _fill_sqlite(file: sqlite3.Connection, records: list[tuple[str, str, dict[str, Any]]]) -> None:
    file.execute("CREATE TABLE objects (id INTEGER PRIMARY KEY, file TEXT, path TEXT)")
    file.execute("CREATE TABLE attributes (object INTEGER, name TEXT, value)")
    file.executemany(
        "INSERT INTO objects VALUES (?, ?, ?)", ((k, f, p) for k, (f, p, _) in enumerate(records))
    )
    file.executemany(
        "INSERT INTO attributes VALUES (?, ?, ?)",
        ((k, n, v) for k, (_, _, a) in enumerate(records) for n, v in a.items()),
    )
    file.execute("CREATE INDEX by_value ON attributes (name, value)")
    file.execute("ANALYZE")


def _report_size(folder: Path, server: Any, objects: int) -> None:
    server.execute("SELECT pg_total_relation_size('objects')")
    attributes = objects * ATTRIBUTES
    measure.report(
        f"bytes of disk for each of {attributes} attributes",
        ours=sum(p.stat().st_size for p in (folder / "index").iterdir()) / attributes,
        postgres=server.fetchone()[0] / attributes,
        sqlite=(folder / "sqlite").stat().st_size / attributes,
    )


def _compare(
    index: Index, server: Any, file: sqlite3.Connection, attributes: list[dict[str, Any]]
) -> None:
    join = "SELECT file, path FROM attributes JOIN objects ON object = id WHERE name = "

    def postgres(question: str, *values: Any) -> Hits:
        server.execute(f"SELECT file, path FROM objects WHERE {question}", values)
        return list(server.fetchall())

    def sqlite(question: str, *values: Any) -> Hits:
        return file.execute(join + question, values).fetchall()

    def contains(name: str, value: Any) -> Callable[[], Hits]:
        return lambda: postgres("a @> %s::jsonb", json.dumps({name: value}))

    def like(before: str, part: str, after: str) -> Callable[[], Hits]:
        return lambda: postgres("a->>'serial' LIKE %s", before + part + after)

    def glob(before: str, part: str, after: str) -> Callable[[], Hits]:
        return lambda: sqlite("'serial' AND value GLOB ?", before + part + after)

    def between(low: float) -> list[Callable[[], Hits]]:
        high = low + 0.01
        question = "(a->>'x0')::float8 >= %s AND (a->>'x0')::float8 < %s"
        return [
            lambda: index.search(f"x0 >= {low!r} and x0 < {high!r}").paths(),
            lambda: postgres(question, low, high),
            lambda: sqlite("'x0' AND value >= ? AND value < ?", low, high),
        ]

    def exact(name: str) -> Callable[[dict[str, Any]], list[Callable[[], Hits]]]:
        def ask(a: dict[str, Any]) -> list[Callable[[], Hits]]:
            shown = f'"{a[name]}"' if isinstance(a[name], str) else a[name]
            return [
                lambda: index.search(f"{name} = {shown}").paths(),
                contains(name, a[name]),
                lambda: sqlite(f"'{name}' AND value = ?", a[name]),
            ]

        return ask

    def affix(before: str, after: str, part: slice) -> Callable[[Any], list[Callable[[], Hits]]]:
        def ask(a: dict[str, Any]) -> list[Callable[[], Hits]]:
            text = a["serial"][part]
            b, c = before.replace("*", "%"), after.replace("*", "%")
            return [
                lambda: index.search(f'serial = "{before}{text}{after}"').paths(),
                like(b, text, c),
                glob(before, text, after),
            ]

        return ask

    questions: dict[str, Callable[[dict[str, Any]], list[Callable[[], Hits]]]] = {
        "exact text, one": exact("serial"),
        "exact text, a thousand": exact("sample"),
        "exact integer, fifty": exact("n0"),
        "range of one in a hundred": lambda a: between(a["x1"] * 0.99),
        "prefix": affix("", "*", slice(0, 3)),
        "suffix": affix("*", "", slice(-3, None)),
        "infix": affix("*", "*", slice(4, 7)),
    }
    for name, ask in questions.items():
        _ask(name, ask, attributes)


def _ask(
    name: str,
    ask: Callable[[dict[str, Any]], list[Callable[[], Hits]]],
    attributes: list[dict[str, Any]],
) -> None:
    chance = random.Random(2)
    taken: list[list[float]] = [[], [], []]
    found = 0
    for _ in range(REPEATS):
        answers = []
        for times, question in zip(taken, ask(chance.choice(attributes)), strict=True):
            begin = time.perf_counter()
            answers.append(question())
            times.append(time.perf_counter() - begin)
        decoded = {(f.decode(), p.decode()) for f, p in answers[0]}
        if any(set(map(tuple, other)) != decoded for other in answers[1:]):
            raise SystemExit(f"{name}: the answers differ")
        found = len(decoded)
    ours, postgres, sqlite = (statistics.median(times) for times in taken)
    measure.report(
        f"search, {name} ({found} found): PostgreSQL / ours",
        ratio=postgres / ours,
        sqlite_ratio=sqlite / ours,
        ours_us=1e6 * ours,
        postgres_us=1e6 * postgres,
        sqlite_us=1e6 * sqlite,
    )
