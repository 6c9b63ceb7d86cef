"""The web pages of a large store, asked by twenty clients at once, beside a static file.

Each page is asked by all clients alone, in turn with the static file, and then all pages in a mix:
first of a server that makes it each time, then of one that remembers pages.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil

from benchmarks import measure, web_store
from benchmarks.web_store import Person
from dashboard import rendering
from datamgr import display, process
from datamgr.api import auth, token_file
from datamgr.config import IdentitySettings, Settings
from datamgr.db import open_database

FULL = (2_000, 5_000_000, 20_000_000)
SMALL = (200, 500_000, 2_000_000)
CLIENTS = 20
WARM_S = 5.0  # a page that was not seen yet takes a second
FEW = 3
STATIC = "static file"
Asks = list[tuple[str, str, str]]


def run(arguments: argparse.Namespace) -> None:
    """Build the store, start the server as people do, and ask."""
    folder = Path(
        arguments.web_store
        or tempfile.mkdtemp(prefix="datamgr-bench-", dir=os.environ.get("BENCHMARK_DIR"))
    )
    try:
        settings = Settings(
            state_dir=folder, identity=IdentitySettings(staff_users=(web_store.STAFF,))
        )
        shape = web_store.shape_of(*(FULL if arguments.full else SMALL))
        with open_database(settings) as database:
            begin = time.perf_counter()
            made = folder / "made.json"
            if not made.exists():
                made.write_text(str(web_store.build(settings, database, shape)))
                print(f"store built in {time.perf_counter() - begin:.0f} s", flush=True)
            people = web_store.people(settings, database, shape, int(made.read_text()))
            cookie = auth.Access(token_file.load_token(folder)).cookie
            pages = _pages(people, cookie, shape.projects)
            for remembered_mib in (0, None):
                print("made each time" if remembered_mib == 0 else "remembered", flush=True)
                with (
                    _server(folder, arguments.web_workers, remembered_mib) as (server, address),
                    _client() as client,
                ):
                    some = pages if remembered_mib == 0 else _seen_before(pages)
                    _measure(arguments, some, _Setting(server, address, client))
    finally:
        if not arguments.web_store:
            shutil.rmtree(folder)


def _pages(people: dict[str, list[Person]], cookie: str, projects: int) -> dict[str, list[Asks]]:
    """By page: what each of the clients asks."""
    users, staff = people["users"] + people["pis"], people["staff"]
    static = f"/static/{rendering.static_version()}/dashboard.css"
    sorts, bases = ("name", "age", "owner"), ("atime", "mtime")
    last = projects // 25
    root = display.to_address(b"/synth")

    def of(who: list[Person], addresses: Any) -> list[Asks]:
        """The same kind of page for each client, cookies included."""
        turns = [who[n % len(who)] for n in range(CLIENTS)]
        return [
            [("", address, f"{cookie}={one.cookie}") for address in addresses(one)] for one in turns
        ]

    def query(page: str, **values: Any) -> str:
        return f"{page}?{urlencode(values)}"

    def project(one: Person, **more: Any) -> list[str]:
        return [
            query("/usage", filesystem="synthetic", project=name, **more) for name in one.projects
        ]

    crowded = users[0].tops[0]
    found = {
        STATIC: of(users, lambda one: [static]),
        "home": of(users, lambda one: ["/"]),
        "home, usage details": of(
            users,
            lambda one: [query("/", details=f"synthetic/{name}") for name in one.projects],
        ),
        "home, staff": of(staff, lambda one: ["/"]),
        "home, staff, sorted and paged": of(
            staff,
            lambda one: [
                query("/", sort=sort, number=number)
                for number in (2, last // 2, last)
                for sort in ("space", "quota", "inodes", "growth", "name")
            ],
        ),
        "home, staff, filtered": of(staff, lambda one: [query("/", find="m01")]),
        "project": of(users, project),
        "project, staff": of(staff, project),
        "project, map of a directory": of(
            users,
            lambda one: [query("/usage", project=one.projects[0], at=at) for at in one.deep[:10]],
        ),
        "project, own files, top 100": of(
            users, lambda one: project(one, user=one.username, top=100, parents=True)
        ),
        "project, directories that grew": of(users, lambda one: project(one, directories="true")),
        "all projects together": of(users, lambda one: ["/usage"]),
        "all projects together, staff": of(staff, lambda one: ["/usage"]),
        "browse, top of a project": of(
            users[1:], lambda one: [query("/browse", at=at) for at in one.tops]
        ),
        "browse, far down": of(users, lambda one: [query("/browse", at=at) for at in one.deep]),
        "browse, sorted": of(
            users,
            lambda one: [
                query("/browse", at=at, sort=sort, basis=basis)
                for at in one.deep
                for sort in sorts
                for basis in bases
            ],
        ),
        "browse, root, staff": of(
            staff,
            lambda one: [
                query("/browse", at=root, sort=sort, number=number)
                for number in (1, 2, 9)
                for sort in ("size", *sorts)
            ],
        ),
        "browse, pages of a crowded directory": of(
            users[:1],
            lambda one: [
                query("/browse", at=crowded, sort=sort, number=number)
                for number in (1, 2, 10, 500)
                for sort in ("size", *sorts)
            ],
        ),
        "search by name": of(
            users[1:], lambda one: [query("/browse", at=at, name="*77*.h5") for at in one.tops]
        ),
        "search by size": of(
            users[1:], lambda one: [query("/browse", at=at, larger="1M") for at in one.tops]
        ),
        "search by age": of(
            users[1:], lambda one: [query("/browse", at=at, older="2y") for at in one.tops]
        ),
        "search by owner": of(
            users[1:], lambda one: [query("/browse", at=at, owner="10050") for at in one.tops]
        ),
        "search in everything, staff": of(
            staff, lambda one: [query("/browse", at=root, larger="1G")]
        ),
        "projects as CSV, staff": of(staff, lambda one: ["/projects.csv"]),
        "files of a project as CSV": of(
            users, lambda one: [query("/usage/files.csv", project=p, top=100) for p in one.projects]
        ),
        "directory as CSV": of(users, lambda one: [query("/browse.csv", at=at) for at in one.deep]),
        "JSON, projects": of(users, lambda one: ["/api/v1/usage/projects"]),
        "JSON, projects, staff": of(staff, lambda one: ["/api/v1/usage/projects"]),
        "JSON, biggest files": of(
            users, lambda one: [query("/api/v1/usage/top", project=p) for p in one.projects]
        ),
        "JSON, a directory": of(
            users,
            lambda one: [
                query("/api/v1/usage/directory", path=display.from_address(at).decode())
                for at in one.deep
            ],
        ),
    }
    return {
        page: [[(page, address, sent) for _, address, sent in asks] for asks in clients]
        for page, clients in found.items()
    }


def _seen_before(pages: dict[str, list[Asks]]) -> dict[str, list[Asks]]:
    """Few addresses for each client, which have all been asked for once the server is warm."""
    return {page: [asks[:FEW] for asks in clients] for page, clients in pages.items()}


@dataclass
class _Setting:
    """The processes of a measurement."""

    server: psutil.Process
    address: str
    client: process.Process
    busy: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def ask(self, clients: list[Asks], seconds: float) -> list[tuple[str, float, int, int]]:
        """What the clients noted."""
        where = urlsplit(self.address)
        plan = {
            "host": where.hostname, "port": where.port, "clients": clients, "seconds": seconds,
        }  # fmt: skip
        before = self._cpu_s()
        begin = time.perf_counter()
        sink, source = process.pipes(self.client)
        sink.write(json.dumps(plan).encode() + b"\n")
        sink.flush()
        told = json.loads(source.readline())
        wall_s = time.perf_counter() - begin
        self.busy["client"].append(told["cpu_s"] / told["wall_s"])
        for name, spent in self._cpu_s().items():
            self.busy[name].append((spent - before.get(name, 0)) / wall_s)
        return [tuple(one) for one in told["taken"]]

    def _cpu_s(self) -> dict[str, float]:
        """What the server's processes have used, and how large they are."""
        spent = 0.0
        for one in [self.server, *self.server.children(recursive=True)]:
            times = one.cpu_times()
            spent += times.user + times.system
        return {"server": spent}

    def memory_mib(self) -> int:
        every = [self.server, *self.server.children(recursive=True)]
        return sum(one.memory_info().rss for one in every) // measure.MEBI


def _measure(
    arguments: argparse.Namespace, pages: dict[str, list[Asks]], setting: _Setting
) -> None:
    chosen = {
        page: asks
        for page, asks in pages.items()
        if page == STATIC or not arguments.web_pages or any(p in page for p in arguments.web_pages)
    }
    seconds = arguments.web_seconds
    found: dict[str, list[tuple[str, float, int, int]]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    for asks in chosen.values():  # warm
        setting.ask(asks, WARM_S)
    setting.busy.clear()
    cpu: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for page, asks in chosen.items():
            begin = time.perf_counter()
            taken = setting.ask(asks, seconds)
            found[page] += taken
            rates[page].append(len(taken) / (time.perf_counter() - begin))
            cpu[page] = setting.busy["server"][-1]
    base = statistics.median(one[1] for one in found[STATIC])
    print(
        f"client {statistics.median(setting.busy['client']):.2f} cores, "
        f"server without database {statistics.median(setting.busy['server']):.2f} cores, "
        f"{setting.memory_mib()} MiB",
        flush=True,
    )
    for page, taken in found.items():
        _show(page, taken, base, statistics.median(rates[page]), cpu[page])
    if arguments.web_pages:
        return
    print("mixed:", flush=True)
    mixed = [
        [ask for page in chosen.values() for ask in page[client][:3]] for client in range(CLIENTS)
    ]
    each = defaultdict(list)
    for one in setting.ask(mixed, seconds * 4):
        each[one[0]].append(one)
    base = statistics.median(one[1] for one in each[STATIC])
    for page in found:
        _show(page, each[page], base, 0.0, 0.0)


def _show(page: str, taken: Any, base: float, rate: float, cpu: float) -> None:
    times = sorted(one[1] for one in taken)
    p50, p95 = statistics.median(times), times[int(0.95 * (len(times) - 1))]
    wrong = sum(1 for one in taken if one[2] != 200)
    measure.report(
        page,
        p50_ms=1000 * p50,
        p95_ms=1000 * p95,
        ratio=p95 / base,
        largest_kb=max(one[3] for one in taken) / 1000,
        asked=len(taken),
        a_second=rate,
        cpu=cpu,
        wrong=wrong,
    )


@contextmanager
def _server(
    folder: Path, workers: int, remembered_mib: int | None
) -> Iterator[tuple[psutil.Process, str]]:
    """A server; `remembered_mib` is what it remembers of pages, None for what it does by itself."""
    environment = {
        **os.environ,
        "DATAMGR_STATE_DIR": str(folder),
        "DATAMGR_IDENTITY__STAFF_USERS": json.dumps([web_store.STAFF]),
    }
    if remembered_mib is not None:
        environment["DATAMGR_WEB__REMEMBERED_MIB"] = str(remembered_mib)
    argv = [sys.executable, "-m", "datamgr.cli.main", "web", "--port", "0"]
    argv += ["--workers", str(workers)]
    log = (folder / "web.log").open("wb")
    started = process.spawn(argv, stdout=process.PIPE, stderr=log, env=environment)
    try:
        assert started.stdout is not None
        link = urlsplit(started.stdout.readline().decode())
        yield psutil.Process(started.pid), f"{link.scheme}://{link.netloc}"
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait()
        log.close()


@contextmanager
def _client() -> Iterator[process.Process]:
    argv = [sys.executable, "-m", "benchmarks.web_client"]
    with process.spawn(argv, stdin=process.PIPE, stdout=process.PIPE) as client:
        yield client
        process.pipes(client)[0].close()
