"""A mail server, a web server and a small catalog for the tests of quotas, alerts and nights."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr import catalog
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.db import Database
from scanners import models
from scanners.models import Scan, ScanState
from tests import mailboxes
from tests.mailboxes import Mailbox

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mailboxes.serving() as box:
        yield box


@dataclass
class Hooks:
    """What a web server was sent; the path says how it answers: /204, /500, /302, /slow."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hooks]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    received = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((self.path, dict(self.headers), body))
            answer = self.path.strip("/")
            if answer == "slow":
                time.sleep(1)
                answer = "204"
            self.send_response(int(answer))
            if answer == "302":
                self.send_header("Location", f"{received.url}/204")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True)
class Catalog:
    """Projects on the file system `fs` with one current scan, whose figures can be set."""

    database: Database
    scan_id: int

    def add(
        self, name: str, quota_bytes: int | None = 1000, quota_inodes: int | None = None
    ) -> int:
        """A project that uses nothing; returns its id."""
        with self.database.transaction() as session:
            project = Project(
                name=name,
                path=f"/fs/{name}".encode(),
                quota_bytes=quota_bytes,
                quota_inodes=quota_inodes,
            )
            session.add(project)
            session.flush()
            key = {"scan_id": self.scan_id, "number": project.id}
            session.execute(
                sa.insert(models.scan_project).values(
                    **key, name=name, path=project.path, project_id=project.id
                )
            )
            figures = {column.name: 0 for column in models.usage.columns}
            figures |= {"scan_id": self.scan_id, "project_number": project.id}
            session.execute(sa.insert(models.usage).values(**figures))
            return project.id

    def use(self, name: str, alloc_bytes: int, files: int = 0) -> None:
        """What the current scan found of a project."""
        with self.database.transaction() as session:
            number = catalog.project(session, name).id
            session.execute(
                sa.update(models.usage)
                .where(models.usage.c.project_number == number)
                .values(alloc_bytes=alloc_bytes, files=files)
            )

    def remember(
        self, name: str, found: list[tuple[datetime, int]], filesystem: str = "fs"
    ) -> None:
        """Scans of the past: times and what was on disk; inodes are a tenth of the bytes."""
        with self.database.transaction() as session:
            first = session.scalar(
                sa.select(sa.func.coalesce(sa.func.max(models.project_history.c.scan_id), 1000))
            )
            assert first is not None
            rows = [
                {column.name: 0 for column in models.project_history.columns}
                | {
                    "scan_id": first + 1 + number,
                    "filesystem": filesystem,
                    "project": name,
                    "scanned_at": at,
                    "alloc_bytes": used,
                    "files": used // 10,
                    "quota_bytes": None,
                    "quota_inodes": None,
                }
                for number, (at, used) in enumerate(found)
            ]
            session.execute(sa.insert(models.project_history), rows)


@pytest.fixture
def centre(database: Database, settings: Settings) -> Catalog:
    """An empty centre, which commands see too."""
    with database.transaction() as session:
        scan = Scan(
            filesystem_id=catalog.ensure_filesystem(session, "fs").id,
            state=ScanState.PUBLISHED,
            source="walk",
            host="here",
            roots=[b"/fs"],
            started_at=NOW,
            errors={},
            atime_policy="relatime",
            timings_s={},
        )
        session.add(scan)
        session.flush()
        return Catalog(database, scan.id)
