"""What nobody gets by names, paths and forms of their own making; who sees which page."""

import os
from pathlib import Path

import httpx
import pytest

from datamgr import catalog, display, identity, tasks
from datamgr.catalog import ProjectChange
from datamgr.db import Database
from datamgr.tasks import State
from tests import mounts
from tests.accounts import People
from tests.integration.pitoolbox.portal.browsers import (
    HOSTILE,
    Form,
    LogIn,
    chgrp,
    ticks,
)
from tests.pages import links_of, routes, text_of

pytestmark = [mounts.needs_root, pytest.mark.root]

ROOT = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)


@pytest.mark.usefixtures("lister")
def test_hostile_names_are_shown_and_lead_nowhere(
    log_in: LogIn, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    page = pi.get("/perms/browse", params={"project": "cosmo", "at": display.to_address(b"data")})
    assert page.status_code == 200
    assert "<img src=x" not in page.text
    assert "\u202e" not in page.text
    assert {display.from_address(value) for value in ticks(page.text).values()} == set(HOSTILE)


@pytest.mark.usefixtures("lister")
def test_a_hostile_name_of_a_project_is_shown_and_leads_to_it(
    log_in: LogIn, database: Database, people: People, ground: Path
) -> None:
    name = """"><img src=x onerror=alert(1)> '&?#é"""
    root = ground / "odd"
    root.mkdir()
    os.chown(root, people.uid(people.pi), people.gid)
    with database.transaction() as session:
        change = ProjectChange(os.fsencode(root), people.group, pis=[people.pi])
        catalog.add_project(session, ROOT, name, change)
    pi = log_in(people.pi)
    pages = [pi.get("/perms").text]
    link = next(link for link in links_of(pages[0]) if "onerror" in link)
    pages.append(pi.get(link).text)
    form: Form = {"project": name, "names": [display.to_address(b".")], "kind": "share"}
    number = pi.asked("/perms/requests", form)
    pages += [pi.get(f"/perms/requests/{number}").text, pi.get("/perms/requests").text]
    pages.append(pi.get("/perms/requests", params={"project": name}).text)
    for page in pages:
        assert "<img src=x" not in page
        assert name in text_of(page)


@pytest.mark.usefixtures("lister")
def test_nobody_leaves_the_project(log_in: LogIn, people: People, tree: Path) -> None:
    (tree / "out").symlink_to("/etc")
    pi = log_in(people.pi)
    for path in ("/etc", "..", "data/../..", "/etc/passwd", "out", "out/ssh", "a\0b"):
        answer = pi.get("/perms/browse", params={"project": "cosmo", "path": path})
        if answer.status_code == 303:
            answer = pi.get(answer.headers["location"])
        assert answer.status_code in (403, 404, 422), path
    for at in (b"/etc", b"..", b"data/../../etc", b"out", b"a\0b", b"x" * 300):
        answer = pi.get(f"/perms/browse?project=cosmo&at={display.to_address(at)}")
        assert answer.status_code in (403, 404, 422), at
    assert pi.get("/perms/browse?project=cosmo&at=!!!").status_code == 422
    typed = pi.get("/perms/browse", params={"project": "cosmo", "path": f"{tree}/data/"})
    assert "data" in text_of(pi.get(typed.headers["location"]).text)


@pytest.mark.usefixtures("lister")
def test_who_sees_what(
    log_in: LogIn, database: Database, people: People, tree: Path, ground: Path
) -> None:
    """The PI, a proxy and staff see the project; members and strangers see that there is none."""
    with database.transaction() as session:
        other = ground / "lux"
        other.mkdir()
        change = ProjectChange(os.fsencode(other), people.other_group, pis=[people.stranger])
        catalog.add_project(session, ROOT, "lux", change)
    pi, member, stranger, staff = map(log_in, (people.pi, people.member, people.stranger, "root"))
    number = pi.asked("/perms/requests", chgrp(people, display.to_address(b"--help")))
    pages = [
        "/perms/browse?project=cosmo",
        "/perms/requests?project=cosmo",
        f"/perms/requests/{number}",
        f"/perms/requests/{number}/left-alone",
        f"/perms/requests/{number}/left-alone.csv",
        f"/perms/requests/{number}/events",
    ]
    forms = [f"/perms/requests/{number}/{verb}" for verb in ("cancel", "undo", "retry", "confirm")]
    for who in (member, stranger):
        for page in pages:
            assert who.get(page).status_code == 403, page
        for form in forms:
            assert who.send_form(form).status_code == 403, form
        asking = who.send_form("/perms/requests", chgrp(people, display.to_address(b"--help")))
        assert asking.status_code == 403
        assert "cosmo" not in text_of(who.get("/perms").text)
        assert "--help" not in asking.text
    address = str(pi.base_url).rstrip("/")
    for page in ["/perms", *pages]:
        assert httpx.get(f"{address}{page}").status_code == 401, page
    for form in ["/perms/requests", *forms]:
        assert httpx.post(f"{address}{form}", data={}).status_code == 401, form
    with database.transaction() as session:
        catalog.set_project(session, ROOT, "cosmo", ProjectChange(proxies=[people.member]))
    for who in (pi, member, staff):
        for page in pages[:-1]:
            assert who.get(page).status_code == 200, page
    assert pi.get("/perms/browse?project=lux").status_code == 403
    assert stranger.get("/perms/browse?project=lux").status_code == 200
    for missing in (number + 1, 2**63 - 1):
        for page in ("", "/events", "/left-alone"):
            assert pi.get(f"/perms/requests/{missing}{page}").status_code == 404
    assert pi.get(f"/perms/requests/{2**63}").status_code == 422
    assert pi.get("/perms/requests/-1").status_code == 422
    # Only who asked and staff stop a request.
    assert member.send_form(f"/perms/requests/{number}/cancel").status_code == 403


def test_no_form_is_taken_that_another_page_made(
    log_in: LogIn, database: Database, people: People, tree: Path
) -> None:
    pi, stranger = log_in(people.pi), log_in(people.stranger)
    form = chgrp(people, display.to_address(b"--help"))
    number = pi.asked("/perms/requests", form)
    paths = ["/perms/requests", *(f"/perms/requests/{number}/{v}" for v in ("cancel", "confirm"))]
    for path in paths:
        for token in ("", "x", stranger.form_token):
            answer = pi.post(path, data={**form, "form_token": token})
            assert answer.status_code == 403, (path, token)
        for origin in ("https://evil.example", "null", f"{pi.base_url}".replace("http", "https")):
            answer = pi.post(
                path,
                data={**form, "form_token": pi.form_token},
                headers={"Origin": origin.rstrip("/")},
            )
            assert answer.status_code == 403, (path, origin)
    with database.transaction() as session:
        assert [task.state for task in tasks.list_tasks(session)] == [State.QUEUED]


def test_every_form_of_the_application_is_checked(log_in: LogIn, people: People) -> None:
    """A route that somebody adds is checked as well: no form is taken without its token."""
    posts = [path for method, path in routes() if method == "POST"]
    assert "/logout" in posts
    assert len(posts) >= 3
    pi = log_in(people.pi)
    for path in posts:
        answer = pi.post(path.replace("{task_id}", "1").replace("{follow_up}", "cancel"), data={})
        assert answer.status_code in (403, 422), path


@pytest.mark.usefixtures("lister")
def test_a_form_of_very_many_ticks_is_refused_and_one_of_a_page_is_not(
    log_in: LogIn, people: People, tree: Path
) -> None:
    pi = log_in(people.pi)
    many = [display.to_address(b"l" * 255)] * 5000
    assert pi.send_form("/perms/requests", chgrp(people, *many)).status_code in (400, 413)
    page = [display.to_address(b"l" * 255)] * 200
    assert pi.send_form("/perms/requests", chgrp(people, *page)).status_code == 303
