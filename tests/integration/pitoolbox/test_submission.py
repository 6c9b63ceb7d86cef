"""Who may ask for what; bad input gets one sentence and queues nothing; all is on record."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from datamgr import catalog, tasks
from datamgr.audit import AuditEvent
from datamgr.catalog import Project, ProjectChange
from datamgr.config import Settings
from datamgr.config_pitoolbox import PitoolboxSettings
from datamgr.db import Database
from datamgr.errors import (
    ConflictError,
    DatamgrError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from datamgr.identity import Caller, Role
from datamgr.tasks import State, Task
from pitoolbox import authorise, journal, queries, resolve, submission
from pitoolbox.executor import Issue, Row, Rows
from pitoolbox.requests import Action, ActionKind, Request
from tests import mounts
from tests.accounts import People

pytestmark = [mounts.needs_root, pytest.mark.root]

ROOT = Caller("root", 0, frozenset(), Role.STAFF)
SHARE = Action(ActionKind.SHARE)
ALL = Request("cosmo", SHARE, (b".",), recursive=True)
Submit = Callable[..., int]


@pytest.fixture
def submit(database: Database, settings: Settings, people: People) -> Submit:
    """Submit a request in a transaction of its own, as the PI unless somebody else is named."""

    def submit_one(request: Request = ALL, who: Caller | None = None) -> int:
        caller = who or people.caller(people.pi)
        with database.transaction() as session:
            return submission.submit(session, settings, caller, request).id

    return submit_one


def queued(database: Database) -> int:
    with database.transaction() as session:
        return session.execute(sa.select(sa.func.count()).select_from(Task)).scalar_one()


def change(database: Database, **fields: Any) -> Project:
    with database.transaction() as session:
        return catalog.set_project(session, ROOT, "cosmo", ProjectChange(**fields))


def end(database: Database, task_id: int, state: State = State.PARTIAL, changed: int = 1) -> None:
    """As if a worker had done it: so many changes, one entry that failed and one skipped."""
    row = Row(b"a", "f", 1, 2, (1, 2, 0o644, None), (1, 3, 0o644, None))
    with database.transaction() as session:
        task = tasks.get(session, task_id)
        task.state, task.started_at, task.finished_at = state, *[tasks.now(session)] * 2
        if changed:
            journal.write(session, task_id, 1, Rows.of([row] * changed))
            journal.mark_applied(session, task_id, 1, [row] * changed, [])
        issues = [Issue(b"b\xff\n", "failed", "no"), Issue(b"c", "skipped", "why")]
        journal.note_issues(session, task_id, issues if state == State.PARTIAL else [])


def test_pis_proxies_and_staff_may_and_nobody_else(
    database: Database, settings: Settings, people: People, project: Project, submit: Submit
) -> None:
    member = people.caller(people.member)
    submit()
    submit(who=ROOT)
    with pytest.raises(ForbiddenError, match="that is for its PIs"):
        submit(who=member)
    with pytest.raises(ForbiddenError):
        submit(who=people.caller(people.stranger))
    change(database, proxies=[people.member])
    submit(who=member)
    # By number, as a site without the name service on this machine registers.
    change(database, proxies=[str(member.uid)])
    submit(who=member)
    change(database, proxies=[])
    with pytest.raises(ForbiddenError):
        submit(who=member)
    assert queued(database) == 4


@pytest.mark.parametrize("field", ["pi_groups", "proxy_groups"])
def test_groups_of_the_name_service_make_pis_and_proxies(
    settings: Settings, people: People, project: Project, field: str
) -> None:
    named = replace_section(settings, **{field: "{project}"})
    member, stranger = people.caller(people.member), people.caller(people.stranger)
    other = Project(name=people.group)
    assert authorise.acts_for(named, member, other)
    assert not authorise.acts_for(named, stranger, other)
    assert not authorise.acts_for(named, member, project)  # there is no group cosmo
    assert not authorise.acts_for(settings, member, other)
    # A project must not become the number of a group.
    numbered = Project(name=str(people.gid))
    assert not authorise.acts_for(named, member, numbered)


def replace_section(settings: Settings, **fields: Any) -> Settings:
    section = PitoolboxSettings(**(settings.pitoolbox.model_dump() | fields))
    return settings.model_copy(update={"pitoolbox": section})


def bad_requests(people: People) -> dict[str, tuple[Request, type[DatamgrError], str]]:
    def chgrp(group: str, *paths: bytes) -> Request:
        return Request("cosmo", Action(ActionKind.CHGRP, group=group), paths or (b".",))

    def chmod(mode: str) -> Request:
        return Request("cosmo", Action(ActionKind.CHMOD, mode=mode), (b".",))

    def chown(user: str) -> Request:
        return Request("cosmo", Action(ActionKind.CHOWN, user=user), (b".",))

    return {
        "unknown group": (chgrp("no-such-group"), NotFoundError, "no unix group"),
        "group no name": (chgrp("a\0b"), NotFoundError, "no unix group"),
        "group no UTF-8": (chgrp("\udcff"), NotFoundError, "no unix group"),
        "foreign group": (chgrp(people.other_group), InvalidError, "is none of project cosmo"),
        "root's group": (chgrp("root"), InvalidError, "is none of project"),
        "unknown user": (chown("no-such-user"), NotFoundError, "no account"),
        "user no name": (chown("a\0b"), NotFoundError, "no account"),
        "user no number": (chown("3999999999"), NotFoundError, "no account with the number"),
        "foreign user": (chown(people.stranger), InvalidError, "does not belong to project"),
        "root": (chown("root"), InvalidError, "one of the system's"),
        "user bits": (chmod("u+s"), InvalidError, "not about the group alone"),
        "all bits": (chmod("777"), InvalidError, "not about the group alone"),
        "no mode": (chmod("rubbish"), InvalidError, "is no mode"),
        "not there": (chgrp(people.group, b"nothing"), NotFoundError, "there is no"),
        "by symlink": (chgrp(people.group, b"way/passwd"), InvalidError, "symbolic link"),
        "no project": (replace(ALL, project="nope"), NotFoundError, "there is no project"),
        "no name": (replace(ALL, project="\udcff"), InvalidError, "no valid UTF-8"),
        "override": (replace(ALL, override=True), ForbiddenError, "that is for staff"),
        "too many": (
            replace(ALL, paths=tuple(b"%d" % n for n in range(10_001))), InvalidError, "too many",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", list(bad_requests(People(*"abcdef"))))
def test_bad_input_gets_one_sentence_and_queues_nothing(
    database: Database, people: People, project: Project, ground: Path, submit: Submit, kind: str
) -> None:
    (ground / "cosmo" / "way").symlink_to("/etc")
    request, error, why = bad_requests(people)[kind]
    with pytest.raises(error, match=why) as refusal:
        submit(request)
    assert "\n" not in str(refusal.value)
    assert queued(database) == 0


def test_what_somebody_names_becomes_paths_below_the_project(
    database: Database, settings: Settings, people: People, project: Project, ground: Path
) -> None:
    (ground / "another-way").symlink_to(ground / "cosmo")

    def select(*given: bytes, who: str = people.pi) -> tuple[bytes, ...]:
        with database.transaction() as session:
            return submission.select(session, settings, people.caller(who), "cosmo", given)

    root = os.fsencode(ground / "cosmo")
    assert select(b"a/", root + b"/b\n", b"\xff", root, b"a", b".") == (b"a", b"b\n", b"\xff", b".")
    # The project by a path that leads to it through a symbolic link.
    assert select(os.fsencode(ground / "another-way") + b"/x") == (b"x",)
    for outside in (b"/", b"/etc/passwd", root + b"logy", root + b"/../x", b"..", b""):
        with pytest.raises(InvalidError):
            select(outside)
    with pytest.raises(ForbiddenError):  # before anything is said of paths
        select(b"/etc", who=people.stranger)


def test_a_project_that_cannot_be_worked_on_is_refused(
    database: Database, people: People, project: Project, ground: Path, submit: Submit
) -> None:
    root = ground / "cosmo"
    root.rename(ground / "moved")
    with pytest.raises(InvalidError, match="is not there any more"):
        submit()
    root.mkdir()
    with pytest.raises(InvalidError, match="it was replaced; staff can register it by"):
        submit()
    change(database, path=os.fsencode(root))
    submit()
    root.rmdir()
    root.symlink_to(ground / "moved")
    with pytest.raises(InvalidError, match="replaced"):
        submit()
    # Another directory that got the number of the one that was registered.
    root.unlink()
    root.mkdir()
    with database.transaction() as session:
        registered = catalog.project(session, "cosmo")
        registered.root_device, registered.root_inode = root.stat().st_dev, root.stat().st_ino
    with pytest.raises(InvalidError, match="replaced"):
        submit()
    with database.transaction() as session:
        catalog.project(session, "cosmo").root_inode = None
    with pytest.raises(InvalidError, match="not known which directory"):
        submit()
    change(database, path=b"/")
    with pytest.raises(InvalidError, match="is / itself"):
        submit()
    assert queued(database) == 1


def test_a_project_without_its_own_unix_group_is_refused(
    database: Database, people: People, project: Project, submit: Submit
) -> None:
    with database.transaction() as session:
        catalog.project(session, "cosmo").unix_group = None
    with pytest.raises(InvalidError, match="has no unix group"):
        submit()


def test_a_pi_gives_files_to_groups_of_the_project_that_the_pi_is_in(
    database: Database, settings: Settings, people: People, project: Project
) -> None:
    pi = people.caller(people.pi)
    to_second = Request("cosmo", Action(ActionKind.CHGRP, group=people.second_group), (b".",))
    with pytest.raises(InvalidError, match="is none of project cosmo"):
        resolve.order_of(settings, project, to_second, pi)
    more = replace_section(settings, groups={"cosmo": (people.second_group,)})
    order = resolve.order_of(more, project, to_second, pi)
    assert order.gid == people.second_gid
    assert set(order.groups) == {people.gid, people.second_gid}
    without = Caller(pi.username, pi.uid, frozenset({people.gid}), Role.USER)
    with pytest.raises(ForbiddenError, match="is not in group"):
        resolve.order_of(more, project, to_second, without)
    outsider = Caller("x", 4711, frozenset({1}), Role.USER)
    with pytest.raises(ForbiddenError, match="is in no unix group of project"):
        resolve.order_of(more, project, to_second, outsider)
    for changes, error, why in (
        ({"min_gid": people.second_gid + 1}, InvalidError, "one of the system's"),
        ({"min_uid": pi.uid + 1}, ForbiddenError, "one of the system's accounts"),
        ({"roots": ("/somewhere",)}, InvalidError, "below none of the directories in"),
    ):
        with pytest.raises(error, match=why):
            resolve.order_of(replace_section(more, **changes), project, to_second, pi)
    within = replace_section(more, roots=(os.path.dirname(os.fsdecode(project.path)),))
    assert resolve.order_of(within, project, to_second, pi).gid == people.second_gid
    # Staff need not be in the group, and may name an owner from outside if they override.
    assert resolve.order_of(more, project, to_second, ROOT).gid == people.second_gid
    foreign = Request("cosmo", Action(ActionKind.CHOWN, user=people.stranger), (b".",))
    with pytest.raises(InvalidError, match="does not belong"):
        resolve.order_of(settings, project, foreign, ROOT)
    order = resolve.order_of(settings, project, replace(foreign, override=True), ROOT)
    assert order.uid == people.uid(people.stranger)


def test_what_a_request_means_in_numbers(
    settings: Settings, people: People, project: Project
) -> None:
    pi = people.caller(people.pi)
    order = resolve.order_of(settings, project, replace(ALL, max_depth=3, dry_run=True), pi)
    found = os.stat(project.path)
    assert (order.root, order.device, order.inode) == (project.path, found.st_dev, found.st_ino)
    assert (order.uid, order.gid) == (-1, people.gid)
    assert list(order.clauses) == [("+", "rX"), ("+", "s")]
    assert (order.recursive, order.max_depth, order.dry_run) == (True, 3, True)
    assert (order.files, order.directories) == (True, True)
    chown = Action(ActionKind.CHOWN, user=people.member)
    order = resolve.order_of(settings, project, replace(ALL, action=chown, only="files"), pi)
    assert (order.uid, order.gid, list(order.clauses)) == (people.uid(people.member), -1, [])
    assert (order.files, order.directories) == (True, False)
    chmod = Action(ActionKind.CHMOD, mode="2050")
    order = resolve.order_of(settings, project, replace(ALL, action=chmod, only="directories"), pi)
    assert (order.uid, order.gid, list(order.clauses)) == (-1, -1, [("=", "rx"), ("+", "s")])
    assert (order.files, order.directories) == (False, True)
    # An undo sets back what was there, whatever its action has come to mean.
    gone = Action(ActionKind.CHGRP, group="no-such-group")
    undo = Request("cosmo", gone, (), undo_of=1)
    order = resolve.order_of(settings, project, undo, pi)
    assert (order.uid, order.gid, list(order.clauses)) == (-1, -1, [])


def test_everything_is_audited_with_who_what_and_from_where(
    database: Database, settings: Settings, people: People, project: Project, submit: Submit
) -> None:
    request = replace(ALL, client="command line on login01")
    first = submit(request)
    submit(replace(request, dry_run=True))
    end(database, first)
    with database.transaction() as session:
        pi = people.caller(people.pi)
        submission.undo(session, settings, pi, first, client="web from 10.0.0.1")
        retry = submission.retry(session, settings, ROOT, first, override=True).id
        submission.cancel(session, ROOT, retry, client="web from 10.0.0.2")
        events = session.scalars(sa.select(AuditEvent).order_by(AuditEvent.id)).all()
    told = [(e.actor, e.action, e.subject) for e in events if e.action != "project.add"]
    assert told == [
        (people.pi, "perms.submit", f"request {first}"),
        (people.pi, "perms.preview", f"request {first + 1}"),
        (people.pi, "perms.undo", f"request {first + 2}"),
        ("root", "perms.retry", f"request {retry}"),
        ("root", "task.cancel", f"task {retry}"),
        ("root", "perms.cancel", f"request {retry}"),
    ]
    details = [e.detail for e in events if e.action.startswith("perms.")]
    assert details[0] == request.to_params()
    assert details[2]["undo_of"] == first
    assert details[2]["client"] == "web from 10.0.0.1"
    assert details[3]["override"] is True
    assert details[4] == {"client": "web from 10.0.0.2"}


def test_only_what_changed_something_is_undone_and_only_what_failed_is_retried(
    database: Database, settings: Settings, people: People, project: Project, submit: Submit
) -> None:
    pi = people.caller(people.pi)

    def follow(how: Callable[..., Task], task_id: int, who: Caller = pi, **fields: Any) -> Request:
        with database.transaction() as session:
            task = how(session, settings, who, task_id, **fields)
            return Request.from_params(task.params)

    undo, retry = submission.undo, submission.retry
    first, preview, dull = submit(replace(ALL, max_depth=2)), submit(replace(ALL, dry_run=True)), 0
    for how in (undo, retry):
        with pytest.raises(ConflictError, match="it is queued"):
            follow(how, first)
        with pytest.raises(InvalidError, match="is a preview"):
            follow(how, preview)
        with pytest.raises(NotFoundError, match="no permission request 99"):
            follow(how, 99)
    end(database, first)
    for how in (undo, retry):
        with pytest.raises(ForbiddenError):
            follow(how, first, people.caller(people.member))
        with pytest.raises(ForbiddenError, match="may not override"):
            follow(how, first, override=True)
    made = follow(undo, first, dry_run=True)
    assert (made.undo_of, made.paths, made.dry_run) == (first, (), True)
    made = follow(undo, first)
    assert (made.undo_of, made.dry_run, made.recursive) == (first, False, False)
    with pytest.raises(ConflictError, match="is being undone already, by request"):
        follow(undo, first)
    made = follow(retry, first)
    assert (made.retry_of, made.paths, made.recursive, made.max_depth) == (first, (), True, 2)
    dull = submit()
    end(database, dull, State.SUCCEEDED, changed=0)
    with pytest.raises(InvalidError, match="changed nothing"):
        follow(undo, dull)
    with pytest.raises(InvalidError, match="nothing failed in"):
        follow(retry, dull)
    undoing = first + 3
    end(database, undoing)
    with pytest.raises(InvalidError, match=f"undo {first}` again"):
        follow(retry, undoing)
    assert follow(undo, undoing).undo_of == undoing  # an undo can be undone


def test_cancelling_is_for_the_requester_and_staff(
    database: Database, people: People, project: Project, submit: Submit
) -> None:
    task_id = submit()
    with pytest.raises(ForbiddenError), database.transaction() as session:
        submission.cancel(session, people.caller(people.member), task_id)
    with database.transaction() as session:
        assert submission.cancel(session, people.caller(people.pi), task_id).state == "cancelled"
    with pytest.raises(ConflictError), database.transaction() as session:
        submission.cancel(session, ROOT, task_id)
    with pytest.raises(NotFoundError), database.transaction() as session:
        other = tasks.submit(session, ROOT, "scan", "fs", {}).id
        submission.cancel(session, ROOT, other)


def test_requests_are_shown_to_those_who_act_for_the_project(
    database: Database, settings: Settings, people: People, project: Project, submit: Submit
) -> None:
    first, second = submit(), submit()
    end(database, first)
    with database.transaction() as session:
        # Two that somebody wrote into the table; one claims to be of another project.
        tasks.submit(session, ROOT, "perms", "perms:cosmo", {"paths": "all"})
        tasks.submit(session, ROOT, "perms", "perms:other", ALL.to_params())
    with database.transaction(read_only=True) as session:

        def listed(who: Caller, **wanted: Any) -> list[int]:
            return [row["id"] for row in queries.list_requests(session, settings, who, **wanted)]

        pi, stranger = people.caller(people.pi), people.caller(people.stranger)
        assert listed(pi) == listed(ROOT) == [second, first]
        assert listed(pi, project="cosmo", states=tasks.UNFINISHED) == [second]
        assert listed(stranger) == []
        with pytest.raises(ForbiddenError):
            listed(stranger, project="cosmo")
        for show in (queries.show, queries.visible):
            with pytest.raises(ForbiddenError, match="may not see"):
                show(session, settings, stranger, first)
        shown = queries.show(session, settings, pi, second)
        assert (shown["ahead"], shown["requester"], shown["paths"]) == (0, people.pi, [b"."])
        found = list(queries.issues(session, first))
        assert [issue["path"] for issue in found] == [b"b\xff\n", b"c"]
        assert [i["path"] for i in queries.issues(session, first, ["skipped"])] == [b"c"]
        assert not queries.worker_runs(session)
