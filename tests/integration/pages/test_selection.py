"""What is ticked in the file browser: states, lists, and what is asked of tiering; by whom."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from datamgr import display, tasks
from datamgr.api import auth
from datamgr.api.app import create_app
from datamgr.audit import AuditEvent
from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from tests import mounts, served
from tests.accounts import People
from tests.integration.pages.conftest import (
    ADA,
    MIB,
    NAMES,
    STAFF,
    STRANGER,
    TOKEN,
    As,
    serving,
    write,
)
from tests.integration.pages.test_browse import at
from tests.integration.pitoolbox.portal.browsers import Browser
from tests.pages import rows_of, text_of
from tiering import requests
from tiering.models import TierFile, TierVersion
from tiering.questions import Action
from tiering.request import Request

Form = dict[str, str | list[str]]


@pytest.fixture
def settings(settings: Settings, tree: Path) -> Settings:
    """The project cosmo is a managed root, lux is not."""
    tier = TierSettings(root=tree / "cosmo", archive=Path("/archive"))
    return settings.model_copy(update={"tier": {"cosmo": tier}})


@pytest.fixture
def as_(settings: Settings, database: Database) -> Iterator[As]:
    with ExitStack() as stack:
        yield lambda caller: stack.enter_context(serving(settings, database, caller))


def archive(database: Database, root: Path, name: str, state: str = "B", **more: object) -> None:
    """As if it had been put as it is now."""
    path = root / "cosmo" / name
    status = path.stat()
    size = int(more.pop("size_bytes", status.st_size))  # type: ignore[call-overload]
    with database.transaction() as session:
        file = TierFile(
            root="cosmo", filesystem="f", inode=status.st_ino, generation=1,
            path=os.fsencode(name), state=state, **more,
        )  # fmt: skip
        session.add(file)
        session.flush()
        version = TierVersion(
            file_id=file.id, size_bytes=size, mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns, sha256=b"", adler32=0,
        )  # fmt: skip
        session.add(version)
        session.flush()
        file.version_id = version.id


def letters(page: str) -> dict[str, str]:
    """What is read out of the state of each file, by name."""
    rows = re.findall(r'aria-label="Select ([^"]*)".*?</tr>', page, re.S)
    parts = page.split('aria-label="Select ')[2:]
    found = [re.search(r'class="letter[^>]*>.</b><span class="hidden">([^<]*)', p) for p in parts]
    return {name: hit[1] for name, hit in zip(rows[1:], found, strict=True) if hit}


def form(folder: Path | bytes, do: str, *names: bytes) -> Form:
    addresses = [display.to_address(name) for name in names]
    return {"at": display.to_address(os.fsencode(folder)), "do": do, "names": addresses}


def confirmed(page: str) -> Form:
    """The form of a page as it is sent when nothing more is filled in."""
    fields: Form = {"paths": re.findall(r'name="paths" value="([^"]*)"', page)}
    for name in ("root", "action", "recursive"):
        fields[name] = re.findall(rf'name="{name}" value="([^"]*)"', page)[0]
    return fields


def queued(database: Database) -> list[tuple[str, str, list[bytes]]]:
    with database.transaction(read_only=True) as session:
        return [
            (task.owner, task.params["action"], requests.paths_of(session, task.id))
            for task in tasks.list_tasks(session, kind=requests.KIND)
        ]


def test_files_show_their_state_by_one_query(
    as_: As, database: Database, tree: Path, rescan: Callable[[], int]
) -> None:
    folder = os.fsencode(tree) + b"/cosmo/all"
    for name in (b"g", b"b", b"h", b"changed", b"pinned", b"gone"):
        write(folder + b"/" + name, MIB, age_d=3)
    later = sa.func.now() + sa.text("interval '1 day'")
    archive(database, tree, "all/b")
    archive(database, tree, "all/h", "H")
    archive(database, tree, "all/changed", size_bytes=5)
    archive(database, tree, "all/pinned", "G", pinned_until=later)
    archive(database, tree, "all/gone", deleted_at=sa.func.now())
    rescan()
    staff = as_(STAFF)
    asked: list[str] = []

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def note(*arguments: object) -> None:
        asked.append(str(arguments[2]))

    page = staff.get(at(folder)).text
    sa.event.remove(database.engine, "before_cursor_execute", note)
    assert sum("FROM tier_file" in statement and "ANY" in statement for statement in asked) == 1
    assert letters(page) == {
        "g": "on disk only",
        "gone": "on disk only",
        "b": "on disk and in the archive",
        "h": "in the archive, on disk a stub",
        "changed": "on disk only, changed since it was put",
        "pinned": "on disk only, pinned",
    }
    found = staff.get(at(tree, "&name=[h]")).text
    assert letters(found) == {"cosmo/all/h": "in the archive, on disk a stub"}


def test_directories_show_what_is_below_them_by_state(
    as_: As, database: Database, tree: Path, rescan: Callable[[], int]
) -> None:
    """cosmo: runs of 4 MiB, all of 1 and 2 MiB, both archived and one punched, all-but of 1 MiB."""
    folder = os.fsencode(tree) + b"/cosmo/all"
    for number in (1, 2):
        write(folder + b"/deep/f%d" % number, number * MIB)
    write(os.fsencode(tree) + b"/cosmo/all-but/f", MIB)
    archive(database, tree, "all/deep/f1")
    archive(database, tree, "all/deep/f2", "H")
    rescan()
    staff = as_(STAFF)
    words = text_of(staff.get(at(tree)).text)
    assert "cosmo/ G 5.0 MiB 3 files on disk only B 1.0 MiB 1 file" in words
    words = text_of(staff.get(at(tree / "cosmo")).text)
    assert "all/ B 1.0 MiB 1 file on disk and in the archive H 2.0 MiB 1 file" in words
    assert "all-but/ G 1.0 MiB 1 file on disk only" in words
    found = text_of(staff.get(at(tree, "&name=deep")).text)
    assert "cosmo/all/deep/ B 1.0 MiB 1 file" in found
    confirm = staff.post("/browse/selection", data=form(tree / "cosmo", "punch", b"all", b"runs"))
    words = text_of(confirm.text)
    assert "G 2 files, 4.0 MiB: on disk only B 1 file, 1.0 MiB" in words
    assert "H 1 file, 2.0 MiB: in the archive, on disk a stub" in words


def test_what_was_put_after_the_scan_is_as_it_is_now(
    as_: As, database: Database, tree: Path, rescan: Callable[[], int]
) -> None:
    """Written again and put since, it looks otherwise than the scan says; another file does not."""
    rescan()
    write(os.fsencode(tree) + b"/cosmo/runs/snap_002.hdf5", 2 * MIB)
    archive(database, tree, "runs/snap_002.hdf5", "H")
    page = as_(STAFF).get(at(tree / "cosmo/runs")).text
    assert letters(page)["snap_002.hdf5"] == "in the archive, on disk a stub"
    with database.transaction() as session:
        session.execute(sa.update(TierFile).values(path=b"another"))
    page = as_(STAFF).get(at(tree / "cosmo/runs")).text
    assert letters(page)["snap_002.hdf5"] == "on disk only"


def test_nothing_of_tiering_is_shown_where_it_does_not_manage(as_: As, scanned: Path) -> None:
    staff = as_(STAFF)
    for folder, is_managed in ((scanned / "cosmo/runs", True), (scanned / "lux/raw", False)):
        page = staff.get(at(folder)).text
        assert ('value="punch"' in page) == is_managed
        assert ("State</abbr>" in page) == is_managed
        assert 'value="csv"' in page
    refused = staff.post("/browse/selection", data=form(scanned / "lux/raw", "put", b"run1.h5"))
    assert refused.status_code == 422
    assert "is in no managed directory" in text_of(refused.text)


def test_hostile_names_are_handed_out_byte_by_byte(
    as_: As, tree: Path, rescan: Callable[[], int]
) -> None:
    folder = os.fsencode(tree) + b"/cosmo/odd"
    for name in NAMES:
        write(folder + b"/" + name, 4096)
    rescan()
    staff = as_(STAFF)
    page = staff.get(at(folder)).text
    assert "<img" not in page.replace('<img src="/static', "")
    assert chr(0x202E) not in page
    boxes = re.findall(r'name="names" value="([^"]*)"', page)
    assert {display.from_address(box) for box in boxes} == set(NAMES)
    ticked: Form = {**form(folder, "null"), "names": boxes}
    answer = staff.post("/browse/selection", data=ticked)
    assert "attachment" in answer.headers["content-disposition"]
    assert set(answer.content.split(b"\0")[:-1]) == {folder + b"/" + name for name in NAMES}
    lines = staff.post("/browse/selection", data={**ticked, "do": "text"})
    assert lines.status_code == 422
    assert "line break" in text_of(lines.text)
    plain = staff.post("/browse/selection", data=form(folder, "text", NAMES[0], NAMES[6]))
    assert plain.content == b"".join(folder + b"/" + NAMES[n] + b"\n" for n in (0, 6))
    cells = rows_of(staff.post("/browse/selection", data={**ticked, "do": "csv"}).text)
    assert len(cells) == len(NAMES)
    assert not any(value.startswith(("=", "+", "-", "@")) for row in cells for value in row.values()
                   if value and row["mode"] != value)  # fmt: skip
    confirm = staff.post("/browse/selection", data={**ticked, "do": "punch"})
    assert confirm.status_code == 200
    assert "<img" not in confirm.text.replace('<img src="/static', "")
    assert chr(0x202E) not in confirm.text
    paths = {display.from_address(path) for path in confirmed(confirm.text)["paths"]}
    assert paths == {b"odd/" + name for name in NAMES}


def test_what_will_happen_is_said_and_then_asked_for(
    as_: As, database: Database, scanned: Path
) -> None:
    """cosmo/runs: 3 MiB and 1 MiB, of which the archive has the first."""
    archive(database, scanned, "runs/snap_001.hdf5")
    ada = as_(ADA)
    one = form(scanned / "cosmo/runs", "punch", b"snap_001.hdf5", b"snap_002.hdf5")
    page = ada.post("/browse/selection", data=one).text
    words = text_of(page)
    assert "Files 2 Their size 4.0 MiB" in words
    assert (
        "B 1 file, 3.0 MiB: on disk and in the archive G" in words or "G 1 file, 1.0 MiB" in words
    )
    assert "only root can read it, and reads zeros" in words
    assert "with the rights of ada" in words
    assert "Nothing carries requests out at the moment" in words
    asked = confirmed(page)
    assert [display.from_address(path) for path in asked["paths"]] == [
        b"runs/snap_001.hdf5",
        b"runs/snap_002.hdf5",
    ]
    refused = ada.post("/tiering/requests", data=asked)
    assert refused.status_code == 422
    assert queued(database) == []
    answer = ada.post("/tiering/requests", data={**asked, "unguarded": "true"})
    assert answer.status_code == 303
    assert queued(database) == [("ada", "punch", [b"runs/snap_001.hdf5", b"runs/snap_002.hdf5"])]
    assert "Nothing carries requests out" in text_of(ada.get(answer.headers["location"]).text)
    with database.transaction(read_only=True) as session:
        event = session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id.desc())).first()
        assert event is not None
        assert (event.actor, event.action) == ("ada", "tier.punch")
        assert event.detail["client"].startswith("web pages, 127.0.0.1")


def test_a_directory_is_asked_for_with_all_below_it(
    as_: As, database: Database, scanned: Path
) -> None:
    staff = as_(STAFF)
    page = staff.post("/browse/selection", data=form(scanned / "cosmo", "pin", b"runs")).text
    assert "Files, at any depth 2" in text_of(page)
    staff.post("/tiering/requests", data={**confirmed(page), "days": "90"})
    with database.transaction(read_only=True) as session:
        (task,) = tasks.list_tasks(session)
        asked = Request.model_validate(task.params)
        assert (asked.action, asked.recursive) == (Action.PIN, True)
        assert asked.until is not None
        assert 89 < (asked.until - task.created_at).total_seconds() / 86_400 <= 90.1


def test_nobody_selects_what_is_not_shown_to_them(as_: As, scanned: Path) -> None:
    (scanned / "cosmo").chmod(0o755)
    ada, stranger = as_(ADA), as_(STRANGER)
    runs = form(scanned / "cosmo/runs", "csv", b"snap_001.hdf5")
    assert ada.post("/browse/selection", data=runs).status_code == 200
    assert stranger.post("/browse/selection", data=runs).status_code == 404
    others: list[tuple[Path, bytes, int]] = [
        (scanned / "lux/raw", b"run1.h5", 404),
        (scanned, b"lux/raw/run1.h5", 404),
        (scanned / "cosmo", b"../lux/raw/run1.h5", 422),
        (scanned / "cosmo", b"runs/../../lux/raw/run1.h5", 422),
        (scanned / "cosmo", b"/etc/passwd", 422),
        (scanned / "cosmo", b"a\0b", 422),
        (scanned / "cosmo", b"", 422),
        (scanned / "cosmo", b"nosuch", 404),
        (scanned / "cosmo", b"nosuch/deeper", 404),
    ]
    for do in ("csv", "null", "punch"):
        for folder, name, status in others:
            answer = ada.post("/browse/selection", data=form(folder, do, name))
            assert answer.status_code == status, (folder, name)
            assert "Traceback" not in answer.text
    assert ada.post("/browse/selection", data=form(scanned / "cosmo", "csv")).status_code == 422
    assert ada.post("/browse/selection", data={**runs, "do": "lock"}).status_code == 422
    assert ada.post("/browse/selection", data={**runs, "names": ["%%%"]}).status_code == 422


def test_no_request_leaves_the_root_or_is_for_who_runs_it(
    as_: As, database: Database, scanned: Path
) -> None:
    ada = as_(ADA)
    good: Form = {"root": "cosmo", "action": "put", "paths": [display.to_address(b"runs")]}
    for change, status in (
        ({"root": "lux"}, 404),
        ({"root": ""}, 422),
        ({"action": "reconcile"}, 422),
        ({"action": "scrub"}, 422),
        ({"paths": []}, 422),
        ({"paths": ["%%%"]}, 422),
        ({"paths": [display.to_address(b"../lux/raw")]}, 422),
        ({"paths": [display.to_address(b"/etc/passwd")]}, 422),
        ({"paths": [display.to_address(b"a\0b")]}, 422),
        ({"action": "pin", "days": "0"}, 422),
        ({"action": "pin", "days": "9999999999999"}, 422),
    ):
        answer = ada.post("/tiering/requests", data={**good, **change})
        assert answer.status_code == status, change
    assert queued(database) == []


def test_a_request_is_followed_by_its_owner_and_staff_alone(
    as_: As, database: Database, scanned: Path
) -> None:
    with database.transaction() as session:
        number = requests.submit(session, ADA, Request(root="cosmo", action=Action.PUT), [b"x"]).id
    ada, path = as_(ADA), f"/tiering/requests/{number}/events"
    assert as_(STRANGER).get(path).status_code == 403
    assert as_(STAFF).get("/tiering/requests/999999/events").status_code == 404
    with as_(STAFF).stream("GET", path) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: state"
        ada.post(f"/tiering/requests/{number}/cancel")
        rest = "\n".join(lines)
    assert "cancelled" in rest
    assert "event: end" in rest


@mounts.needs_root
@pytest.mark.root
def test_no_form_is_taken_that_another_page_made(
    settings: Settings, database: Database, scanned: Path, people: People
) -> None:
    app = create_app(settings, database, auth.of_settings(settings, TOKEN, "127.0.0.1"))
    with served.serving(app) as address, ExitStack() as stack:
        pi, stranger = (
            stack.enter_context(Browser(address, settings, database, people.caller(name)))
            for name in (people.pi, people.stranger)
        )
        forms: dict[str, Form] = {
            "/browse/selection": form(scanned / "cosmo/runs", "csv", b"snap_001.hdf5"),
            "/tiering/requests": {
                "root": "cosmo", "action": "put", "paths": [display.to_address(b"runs")],
            },
        }  # fmt: skip
        for path, fields in forms.items():
            assert httpx.post(f"{address}{path}", data=fields).status_code == 401
            for token in ("", "x", stranger.form_token):
                answer = pi.post(path, data={**fields, "form_token": token})
                assert answer.status_code == 403, (path, token)
            for origin in ("https://evil.example", "null"):
                answer = pi.post(
                    path,
                    data={**fields, "form_token": pi.form_token},
                    headers={"Origin": origin},
                )
                assert answer.status_code == 403, (path, origin)
        assert queued(database) == []
        # Of the same session it is taken; what the project is to somebody is another question.
        assert pi.send_form("/browse/selection", forms["/browse/selection"]).status_code == 404
        assert pi.send_form("/tiering/requests", forms["/tiering/requests"]).status_code == 303
        assert [owner for owner, _, _ in queued(database)] == [people.pi]
