"""Searching five million attributes: beside PostgreSQL, SQLite and DuckDB.

PostgreSQL twice: JSONB with GIN and pg_trgm, which knows nothing of the questions; and with an
expression index made by hand for each of them, of reversed texts for suffixes. DuckDB has a column
for each attribute, indexed where questions ask for equality.

Wants the Debian package postgresql (its server, for pg_trgm) and root, to run it as `postgres`.
"""

import argparse
import gc
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

import duckdb
import psycopg2
import pyarrow as pa

from benchmarks import measure
from hdf5_tools.harvest.records import FileRecord, Kind, ObjectRecord
from hdf5_tools.index import container, manifest
from hdf5_tools.index.assemble import assemble
from hdf5_tools.index.builder import Builder, FileStamp
from hdf5_tools.index.index import Index

OBJECTS_PER_FILE, ATTRIBUTES = 50, 10
ROUNDS, REPEATS = 5, 20  # 100 new values, each round after the others
Hits = list[tuple[Any, Any]]


def run(arguments: argparse.Namespace) -> None:
    """Questions to each, with the paths of what is found; a new value every time."""
    objects = max(arguments.entries // 2, OBJECTS_PER_FILE)  # 1 000 000 entries: 500 000 objects
    folder = Path(tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR")))
    folder.chmod(0o755)
    try:
        records = list(_records(objects))
        gc.freeze()  # so that no collection looks at the records, whoever is at work
        ours = _seconds_to_write(folder / "index", _harvested(records))
        index = _opened(folder / "index")
        with (
            _postgres(folder) as server,
            sqlite3.connect(folder / "sqlite") as file,
            duckdb.connect(folder / "duckdb") as columns,
        ):
            postgres = measure.seconds(lambda: _fill_postgres(server, records))
            sqlite = measure.seconds(lambda: _fill_sqlite(file, records))
            duck = measure.seconds(lambda: _fill_duckdb(columns, records))
            measure.report(
                "making the index: PostgreSQL / ours",
                ratio=postgres / ours, sqlite_ratio=sqlite / ours, duckdb_ratio=duck / ours,
                ours_s=ours, postgres_s=postgres, sqlite_s=sqlite, duckdb_s=duck,
            )  # fmt: skip
            _report_size(folder, server, objects)
            _tune(server)
            _compare(index, server, file, columns, [a for _, _, a in records])
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
            "file_name": f"/data/raw/scan_{number:07}.nxs",
        }
        attributes |= {f"x{k}": chance.random() for k in range(3)}
        attributes |= {f"n{k}": chance.randrange(10_000) for k in range(2)}
        run, scan = divmod(number, OBJECTS_PER_FILE)
        yield f"/data/beamline/run{run:06}.h5", f"/entry/scan{scan:02}", attributes


Harvested = list[tuple[FileStamp, FileRecord]]


def _harvested(records: list[tuple[str, str, dict[str, Any]]]) -> Harvested:
    kinds = {str: "string", float: "float64", int: "int64"}
    files: Harvested = []
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
        stamp = FileStamp(records[first][0].encode(), 1, first, 1, 1)
        files.append((stamp, FileRecord(found)))
    return files


def _seconds_to_write(folder: Path, harvested: Harvested) -> float:
    gc.freeze()
    return measure.seconds(lambda: _write(folder, harvested))


def _write(folder: Path, harvested: Harvested) -> None:
    """What `datamgr hdf5 index` does with what it harvested; in one segment."""
    builder = Builder()
    for stamp, record in harvested:
        builder.add(stamp, record)
    folder.mkdir()
    columns = builder.columns()
    container.write(folder / "1.segment", assemble(columns))
    files, objects = len(columns.file_path), len(columns.object_file)
    entry = manifest.Entry("1.segment", files, objects, columns.attributes)
    manifest.store(folder, manifest.Manifest((entry,), 1))


def _opened(folder: Path) -> Index:
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
    _index(server, "objects", *_GIN)
    server.execute("VACUUM ANALYZE objects")


_GIN = (
    "GIN (a jsonb_path_ops)", "GIN ((a->>'serial') gin_trgm_ops)",
    "GIN ((a->>'file_name') gin_trgm_ops)",
)  # fmt: skip
_TUNED = (
    "btree (((a->>'x0')::float8))", "btree (((a->>'n0')::int8))", "btree ((a->>'sample'))",
    "btree ((a->>'serial') text_pattern_ops)", "btree (reverse(a->>'serial') text_pattern_ops)",
    "btree (reverse(a->>'file_name') text_pattern_ops)",
)  # fmt: skip


def _tune(server: Any) -> None:
    """The same again, with an index for each question."""
    server.execute("CREATE TABLE tuned AS SELECT * FROM objects")
    _index(server, "tuned", *_GIN, *_TUNED)
    server.execute("VACUUM ANALYZE tuned")


def _index(server: Any, table: str, *indexes: str) -> None:
    for index in indexes:
        server.execute(f"CREATE INDEX ON {table} USING {index}")


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


def _fill_duckdb(
    columns: duckdb.DuckDBPyConnection, records: list[tuple[str, str, dict[str, Any]]]
) -> None:
    table = pa.Table.from_pylist([{"file": f, "path": p, **a} for f, p, a in records])
    columns.register("given", table)
    columns.execute("CREATE TABLE objects AS SELECT * FROM given")
    columns.unregister("given")
    for name in ("serial", "sample", "n0"):
        columns.execute(f"CREATE INDEX by_{name} ON objects ({name})")
    columns.execute("CHECKPOINT")


def _report_size(folder: Path, server: Any, objects: int) -> None:
    server.execute("SELECT pg_total_relation_size('objects')")
    attributes = objects * ATTRIBUTES
    measure.report(
        f"bytes of disk for each of {attributes} attributes",
        ours=sum(p.stat().st_size for p in (folder / "index").iterdir()) / attributes,
        postgres=server.fetchone()[0] / attributes,
        sqlite=(folder / "sqlite").stat().st_size / attributes,
        duckdb=(folder / "duckdb").stat().st_size / attributes,
    )


def _compare(
    index: Index,
    server: Any,
    file: sqlite3.Connection,
    columns: duckdb.DuckDBPyConnection,
    attributes: list[dict[str, Any]],
) -> None:
    join = "SELECT file, path FROM attributes JOIN objects ON object = id WHERE name = "

    def postgres(table: str, question: str, *values: Any) -> Callable[[], Hits]:
        def ask() -> Hits:
            server.execute(f"SELECT file, path FROM {table} WHERE {question}", values)
            return list(server.fetchall())

        return ask

    def sqlite(question: str, *values: Any) -> Callable[[], Hits]:
        return lambda: file.execute(join + question, values).fetchall()

    def duck(question: str, *values: Any) -> Callable[[], Hits]:
        asked = f"SELECT file, path FROM objects WHERE {question}"
        return lambda: columns.execute(asked, values).fetchall()

    def ours(question: str) -> Callable[[], Hits]:
        return lambda: index.search(question).paths()

    def between(a: dict[str, Any]) -> list[Callable[[], Hits]]:
        low = a["x1"] * 0.99
        high = low + 0.01
        question = "(a->>'x0')::float8 >= %s AND (a->>'x0')::float8 < %s"
        return [
            ours(f"x0 >= {low!r} and x0 < {high!r}"),
            postgres("objects", question, low, high),
            postgres("tuned", question, low, high),
            sqlite("'x0' AND value >= ? AND value < ?", low, high),
            duck("x0 >= ? AND x0 < ?", low, high),
        ]

    def exact(name: str, cast: str = "") -> Callable[[dict[str, Any]], list[Callable[[], Hits]]]:
        def ask(a: dict[str, Any]) -> list[Callable[[], Hits]]:
            shown = f'"{a[name]}"' if isinstance(a[name], str) else a[name]
            return [
                ours(f"{name} = {shown}"),
                postgres("objects", "a @> %s::jsonb", json.dumps({name: a[name]})),
                postgres("tuned", f"(a->>'{name}'){cast} = %s", a[name]),
                sqlite(f"'{name}' AND value = ?", a[name]),
                duck(f"{name} = ?", a[name]),
            ]

        return ask

    def affix(
        before: str, after: str, part: slice, name: str = "serial"
    ) -> Callable[[Any], list[Callable[[], Hits]]]:
        def ask(a: dict[str, Any]) -> list[Callable[[], Hits]]:
            text = a[name][part]
            like = (before + text + after).replace("_", "\\_").replace("*", "%")
            tuned = postgres("tuned", f"a->>'{name}' LIKE %s", like)
            if before and not after:
                backwards = text[::-1].replace("_", "\\_") + "%"
                tuned = postgres("tuned", f"reverse(a->>'{name}') LIKE %s", backwards)
            return [
                ours(f'{name} = "{before}{text}{after}"'),
                postgres("objects", f"a->>'{name}' LIKE %s", like),
                tuned,
                sqlite(f"'{name}' AND value GLOB ?", before + text + after),
                duck(f"{name} GLOB ?", before + text + after),
            ]

        return ask

    questions: dict[str, Callable[[dict[str, Any]], list[Callable[[], Hits]]]] = {
        "exact text, one": exact("serial"),
        "exact text, a thousand": exact("sample"),
        "exact integer, fifty": exact("n0", "::int8"),
        "range of one in a hundred": between,
        "prefix of 3 letters": affix("", "*", slice(0, 3)),
        "prefix of 5 letters": affix("", "*", slice(0, 5)),
        "suffix of 3 random letters": affix("*", "", slice(-3, None)),
        "suffix of 5 random letters": affix("*", "", slice(-5, None)),
        "suffix of a file name, 7 letters": affix("*", "", slice(-7, None), "file_name"),
        "infix of 3 letters": affix("*", "*", slice(4, 7)),
        "infix of 5 letters": affix("*", "*", slice(3, 8)),
    }
    for name, ask in questions.items():
        _ask(name, ask, attributes)


def _ask(
    name: str,
    ask: Callable[[dict[str, Any]], list[Callable[[], Hits]]],
    attributes: list[dict[str, Any]],
) -> None:
    chance = random.Random(2)
    taken: list[list[float]] = [[], [], [], [], []]
    found = 0
    for _ in range(ROUNDS):
        # Each in its turn, as a service that has nothing else to do.
        questions = [ask(chance.choice(attributes)) for _ in range(REPEATS)]
        answers = []
        for times, asked in zip(taken, zip(*questions, strict=True), strict=True):
            answers.append([])
            for question in asked:
                begin = time.perf_counter()
                answers[-1].append(question())
                times.append(time.perf_counter() - begin)
        for answer in zip(*answers, strict=True):
            decoded = {(f.decode(), p.decode()) for f, p in answer[0]}
            if any(set(map(tuple, other)) != decoded for other in answer[1:]):
                raise SystemExit(f"{name}: the answers differ")
            found = len(decoded)
    ours, gin, tuned, sqlite, duck = (statistics.median(times) for times in taken)
    measure.report(
        f"search, {name} ({found} found): others / ours",
        jsonb_gin_trgm=gin / ours,
        expression_indexes=tuned / ours,
        sqlite=sqlite / ours,
        duckdb=duck / ours,
        ours_us=1e6 * ours,
        jsonb_gin_trgm_us=1e6 * gin,
        expression_indexes_us=1e6 * tuned,
        sqlite_us=1e6 * sqlite,
        duckdb_us=1e6 * duck,
    )
