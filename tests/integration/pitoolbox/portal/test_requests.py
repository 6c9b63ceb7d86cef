"""The pages of permissions: from looking into a directory to undoing, with real processes."""

import os
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import display, tasks
from datamgr.db import Database
from datamgr.tasks import State, Task
from pitoolbox import journal
from pitoolbox.executor import Issue
from tests import mounts
from tests.accounts import People
from tests.integration.pitoolbox.portal.browsers import (
    HOSTILE,
    Form,
    LogIn,
    chgrp,
    ended,
    events,
    group_of,
    ticks,
)
from tests.pages import rows_of, text_of

pytestmark = [mounts.needs_root, pytest.mark.root]


@pytest.mark.usefixtures("lister", "worker")
def test_from_looking_to_undoing(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    assert "cosmo" in text_of(pi.get("/perms").text)
    page = pi.get("/perms/browse?project=cosmo").text
    link = re.findall(r'<a href="(/perms/browse[^"]*)"><bdi>data</bdi>/', page)[0]
    listing = pi.get(link.replace("&amp;", "&")).text
    boxes = ticks(listing)
    assert len(boxes) == len(HOSTILE)

    preview = pi.asked(
        "/perms/requests", chgrp(people, boxes["--help"], boxes["no utf8 \\xff\\xfe"])
    )
    told = events(pi, preview)
    assert [name for name, _ in told][-2:] == ["state", "end"]
    words = text_of(told[-2][1])
    assert "This would change 2 entries. Nothing was changed yet." in words
    assert "2 would be changed 2 files, 2 groups" in words
    assert group_of(tree / "data" / "--help") == people.second_gid

    number = pi.asked(f"/perms/requests/{preview}/confirm")
    # A second click, or a second tab, leads to the same request.
    assert pi.asked(f"/perms/requests/{preview}/confirm") == number
    assert ended(database, number).state == State.SUCCEEDED
    assert group_of(tree / "data" / "--help") == people.gid
    assert group_of(os.fsencode(tree) + b"/data/no utf8 \xff\xfe") == people.gid
    assert group_of(tree / "data") == people.second_gid
    assert f"Carried out by request {number}" in text_of(pi.get(f"/perms/requests/{preview}").text)
    assert "All of it is done." in text_of(pi.get(f"/perms/requests/{number}").text)

    undo = pi.asked(f"/perms/requests/{number}/undo")
    ended(database, undo)
    assert group_of(tree / "data" / "--help") == people.gid
    done = pi.asked(f"/perms/requests/{undo}/confirm")
    assert ended(database, done).state == State.SUCCEEDED
    assert group_of(tree / "data" / "--help") == people.second_gid
    assert f"Undo {done}" in text_of(pi.get(f"/perms/requests/{number}").text)
    history = text_of(pi.get("/perms/requests?project=cosmo").text)
    for one in (preview, number, undo, done):
        assert f" {one} " in history


@pytest.mark.usefixtures("lister", "worker")
def test_the_whole_project_is_shared_with_its_group(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    form: Form = {"project": "cosmo", "names": [display.to_address(b".")], "kind": "share"}
    preview = pi.asked("/perms/requests", form)
    ended(database, preview)
    number = pi.asked(f"/perms/requests/{preview}/confirm")
    assert ended(database, number).state == State.SUCCEEDED
    folder = (tree / "data").stat()
    assert (folder.st_gid, oct(folder.st_mode & 0o7777)) == (people.gid, "0o2750")


def test_a_request_waits_is_cancelled_and_confirmed_early(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    """Without a worker nothing runs, and the pages say so."""
    pi = log_in(people.pi)
    preview = pi.asked("/perms/requests", chgrp(people, display.to_address(b"--help")))
    words = text_of(pi.get(f"/perms/requests/{preview}").text)
    assert "Nothing carries requests out at the moment" in words
    assert "Carry it out without waiting for the preview" in words
    number = pi.asked(f"/perms/requests/{preview}/confirm")
    assert ended(database, preview).state == State.CANCELLED
    assert pi.asked(f"/perms/requests/{number}/cancel") == number
    assert ended(database, number).state == State.CANCELLED
    assert "Nothing was changed." in text_of(pi.get(f"/perms/requests/{number}").text)
    again = pi.send_form(f"/perms/requests/{number}/cancel")
    assert again.status_code == 409
    for follow_up in ("undo", "retry", "confirm"):
        assert pi.send_form(f"/perms/requests/{number}/{follow_up}").status_code == 422
    assert pi.send_form(f"/perms/requests/{number}/explode").status_code == 422


@pytest.mark.usefixtures("lister")
def test_what_the_form_cannot_mean_is_said_beside_it(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    good = chgrp(people, display.to_address(b"--help"))
    wrong: list[tuple[Form, int, str]] = [
        ({"names": []}, 422, "nothing is selected"),
        ({"kind": "chmod", "mode": "o+r"}, 422, "is not about the group alone"),
        ({"kind": "chmod", "mode": " "}, 422, "needs a mode"),
        ({"kind": "chown", "user": people.stranger}, 422, "does not belong to project"),
        ({"group": people.other_group}, 422, "is none of project"),
        ({"group": "nosuch"}, 404, "there is no unix group"),
        ({"names": [display.to_address(b"gone")]}, 404, "there is no data/gone"),
        ({"names": [display.to_address(b"../../etc")]}, 422, "is no name in this directory"),
        ({"names": [display.to_address(b"..")]}, 422, "is no name in this directory"),
        ({"names": ["%%%"]}, 422, "no base64url"),
        ({"override": "true"}, 403, "that is for staff"),
    ]
    for change, status, words in wrong:
        answer = pi.send_form("/perms/requests", good | change)
        assert (answer.status_code, words in text_of(answer.text)) == (status, True), change
        assert 'name="kind"' in answer.text
        assert "<img" not in answer.text.replace('<img src="/static', "")
    no_kind = {name: value for name, value in good.items() if name != "kind"}
    assert "choose what is to be done" in text_of(pi.send_form("/perms/requests", no_kind).text)
    with database.transaction() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Task)) == 0


@pytest.mark.usefixtures("lister")
def test_pages_and_selections_go_on(log_in: LogIn, people: People, tree: Path) -> None:
    many = tree / "many"
    many.mkdir()
    for number in range(250):
        (many / f"f{number:03}").touch()
    pi = log_in(people.pi)
    first = pi.get(f"/perms/browse?project=cosmo&at={display.to_address(b'many')}&all=true").text
    assert len(ticks(first)) == 200
    assert first.count(" checked>") == 200 + 1  # and `recursive`
    following = re.findall(r'href="([^"]*)">Next page', first)[0].replace("&amp;", "&")
    second = pi.get(following).text
    assert len(ticks(second)) == 50
    assert second.count(" checked>") == 1


@pytest.mark.usefixtures("worker")
def test_what_was_left_alone_is_listed_and_downloaded(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    for name in HOSTILE:
        os.chown(
            os.fsencode(tree) + b"/data/" + name, people.uid(people.stranger), people.other_gid
        )
    pi = log_in(people.pi)
    preview = pi.asked("/perms/requests", chgrp(people, display.to_address(b".")))
    number = pi.asked(f"/perms/requests/{preview}/confirm")
    assert ended(database, number).state == State.PARTIAL
    page = pi.get(f"/perms/requests/{number}/left-alone").text
    assert text_of(page).count("its owner does not belong to the project") == len(HOSTILE)
    assert "<img src=x" not in page
    file = pi.get(f"/perms/requests/{number}/left-alone.csv")
    assert "attachment" in file.headers["content-disposition"]
    rows = rows_of(file.text)
    assert len(rows) == len(HOSTILE)
    assert not any(row["path"].startswith(("=", "+", "-", "@")) for row in rows)
    assert "<img src=x" not in pi.get(f"/perms/requests/{number}").text


@pytest.mark.usefixtures("worker")
def test_what_failed_is_tried_again(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    preview = pi.asked("/perms/requests", chgrp(people, display.to_address(b"--help")))
    number = pi.asked(f"/perms/requests/{preview}/confirm", {"notify": "true"})
    ended(database, number)
    assert pi.send_form(f"/perms/requests/{number}/retry").status_code == 422
    (other,) = tree.glob("data/*quoted*")
    with database.transaction() as session:
        path = os.fsencode(other.relative_to(tree))
        journal.note_issues(session, number, [Issue(path, "failed", "the disk was away")])
        # A preview sends no mail; what is carried out does, if that is ticked.
        assert [tasks.get(session, n).params["notify"] for n in (preview, number)] == [False, True]
    again = pi.asked(f"/perms/requests/{number}/retry")
    assert "This would change 1 entry." in text_of(events(pi, again)[-2][1])
    done = pi.asked(f"/perms/requests/{again}/confirm")
    assert ended(database, done).state == State.SUCCEEDED
    assert group_of(other) == people.gid
    assert f"Retry {done}" in text_of(pi.get(f"/perms/requests/{number}").text)
