"""Pages that follow a request."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import display
from datamgr.db import Database
from tests import mounts
from tests.accounts import People
from tests.integration.pitoolbox.portal.browsers import LogIn, chgrp

pytestmark = [mounts.needs_root, pytest.mark.root]


def test_a_stream_ends_with_the_session_and_tells_each_change_once(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    number = pi.asked("/perms/requests", chgrp(people, display.to_address(b"--help")))
    seen = []
    with pi.stream("GET", f"/perms/requests/{number}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
                if len(seen) == 1:
                    time.sleep(2.5)  # the same state is not told again
                    with database.transaction() as session:
                        session.execute(sa.text("DELETE FROM web_session"))
    assert seen == ["state", "gone"]


def test_two_tabs_follow_one_request(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    number = pi.asked("/perms/requests", chgrp(people, display.to_address(b"--help")))
    path = f"/perms/requests/{number}/events"
    with pi.stream("GET", path) as one, pi.stream("GET", path) as two:
        pi.asked(f"/perms/requests/{number}/cancel")
        for answer in (one, two):
            assert "event: end" in "\n".join(answer.iter_lines())


def test_many_who_follow_leave_room_for_others(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    """A stream holds no connection to the database, of which there are 15, between two looks."""
    pi = log_in(people.pi)
    number = pi.asked("/perms/requests", chgrp(people, display.to_address(b"--help")))
    with ExitStack() as stack:
        streams = [
            stack.enter_context(pi.stream("GET", f"/perms/requests/{number}/events"))
            for _ in range(40)
        ]
        assert {stream.status_code for stream in streams} == {200}
        for _ in range(5):
            assert pi.get("/perms").status_code == 200
        with database.transaction() as session:
            idle = (
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
                " AND state_change < now() - interval '2 s'"
            )
            assert session.execute(sa.text(idle)).scalar_one() == 0
        pi.asked(f"/perms/requests/{number}/cancel")
        for stream in streams:
            assert "event: end" in "\n".join(stream.iter_lines())
