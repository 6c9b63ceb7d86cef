"""One table of all routes: who gets what from each, and what every answer has to have.

A route that somebody adds fails here until it is in the table.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from datamgr import catalog, display
from datamgr.api.guard import SECURITY_HEADERS
from datamgr.catalog import ProjectMember, ProjectRole
from datamgr.config import Settings
from datamgr.config_tier import PolicySettings, TierSettings
from datamgr.db import Database
from datamgr.tasks import Task
from pitoolbox import requests as perms
from pitoolbox import submission
from pitoolbox.requests import Action, ActionKind
from tests.integration.pages.conftest import ADA, STAFF, STRANGER, TOKEN, serving
from tests.pages import routes
from tests.people import person
from tiering import requests as tier
from tiering.questions import Action as TierAction
from tiering.request import Request as TierRequest

MEMBER, PI, PROXY = ADA, person("pi", 60_004), person("proxy", 60_005)
PEOPLE = {"member": MEMBER, "pi": PI, "proxy": PROXY, "staff": STAFF, "stranger": STRANGER}
Expected = tuple[int, int, int, int, int]  # in the order of PEOPLE

ALL = (200,) * 5
THEIRS = (200, 200, 200, 200, 404)  # what the project cosmo has is shown to its people
ACTING = (403, 200, 200, 200, 403)  # and what it is asked to change, to who acts for it
OPEN: Mapping[tuple[str, str], int] = {
    ("GET", "/login"): 200,
    ("GET", "/login/link"): 403,
    ("GET", "/login/oidc"): 422,
    ("GET", "/login/callback"): 422,
    ("GET", "/static/{version}/{file}"): 200,
}
FORMS = {
    "/browse/selection": {"at": "{cosmo}", "do": "csv", "names": "{runs}"},
    "/tiering/requests": {"root": "cosmo", "action": "stage", "paths": "{runs}"},
    "/perms/requests": {"project": "cosmo", "names": "{dot}", "kind": "chmod", "mode": "g+r"},
}
# By method and route: its parameters, and the statuses.
TABLE: Mapping[tuple[str, str], tuple[str, Expected]] = {
    ("GET", "/login"): ("", ALL),
    ("GET", "/login/link"): ("", (403,) * 5),
    ("GET", "/login/oidc"): ("", (422,) * 5),
    ("GET", "/login/callback"): ("", (422,) * 5),
    # Who came with a token has no session to end.
    ("POST", "/logout"): ("", (422,) * 5),
    ("GET", "/static/{version}/{file}"): ("", ALL),
    ("GET", "/"): ("", ALL),
    ("GET", "/projects.csv"): ("", ALL),
    ("GET", "/usage"): ("?project=cosmo", THEIRS),
    ("GET", "/usage/{what}.csv"): ("?project=cosmo", THEIRS),
    ("GET", "/browse"): ("?at={cosmo}", THEIRS),
    ("GET", "/browse.csv"): ("?at={cosmo}", THEIRS),
    ("POST", "/browse/selection"): ("", THEIRS),
    ("GET", "/operations"): ("", (403, 403, 403, 200, 403)),
    ("GET", "/hdf5"): ("", ALL),
    ("GET", "/perms"): ("", ALL),
    # The lister does not run.
    ("GET", "/perms/browse"): ("?project=cosmo", (403, 503, 503, 503, 403)),
    ("GET", "/perms/requests"): ("?project=cosmo", ACTING),
    # These are no accounts of the machine, and the form that says so needs the lister.
    ("POST", "/perms/requests"): ("", (403, 503, 503, 303, 403)),
    ("GET", "/perms/requests/{task_id}"): ("", ACTING),
    ("GET", "/perms/requests/{task_id}/left-alone"): ("", ACTING),
    ("GET", "/perms/requests/{task_id}/left-alone.csv"): ("", ACTING),
    ("GET", "/perms/requests/{task_id}/events"): ("", ACTING),
    # Asked by staff, whom alone it obeys.
    ("POST", "/perms/requests/{task_id}/{follow_up}"): ("", (403, 403, 403, 303, 403)),
    ("GET", "/tiering"): ("", ALL),
    # Carried out with the rights of who asks, which the daemon looks at.
    ("POST", "/tiering/requests"): ("", (303,) * 5),
    # Asked by the member.
    ("GET", "/tiering/requests/{task_id}"): ("", (200, 403, 403, 200, 403)),
    ("GET", "/tiering/requests/{task_id}/events"): ("", (200, 403, 403, 200, 403)),
    ("POST", "/tiering/requests/{task_id}/cancel"): ("", (303, 403, 403, 303, 403)),
    ("GET", "/tiering/policies/{root}/{name}"): ("", THEIRS),
    ("GET", "/tiering/policies/{root}/{name}/files.csv"): ("", THEIRS),
    ("GET", "/api/v1/tiering/policies/{root}/{name}"): ("", THEIRS),
    ("GET", "/api/v1/scans"): ("", ALL),
    ("GET", "/api/v1/usage/projects"): ("?project=cosmo", THEIRS),
    ("GET", "/api/v1/usage/owners"): ("?project=cosmo", THEIRS),
    ("GET", "/api/v1/usage/top"): ("?project=cosmo", THEIRS),
    ("GET", "/api/v1/usage/directory"): ("?path={path}", THEIRS),
    ("GET", "/api/v1/usage/ages"): ("?project=cosmo", THEIRS),
    ("GET", "/api/v1/usage/growth"): ("?project=cosmo", THEIRS),
    ("GET", "/api/v1/hdf5/indexes"): ("", ALL),
    ("GET", "/api/v1/hdf5/search"): ("?index=nosuch&query=a", (404,) * 5),
    ("GET", "/api/v1/hdf5/attributes"): ("?index=nosuch", (404,) * 5),
}


@pytest.fixture
def settings(settings: Settings, tree: Path) -> Settings:
    """The project cosmo is a managed root with a policy."""
    policy = {"cold": PolicySettings(action="put", older_than_s=0)}
    tier_settings = TierSettings(root=tree / "cosmo", archive=Path("/archive"), policy=policy)
    return settings.model_copy(update={"tier": {"cosmo": tier_settings}})


@dataclass(frozen=True)
class Site:
    """The application, as each of the people and as nobody, over two scans of cosmo and lux."""

    clients: Mapping[str, httpx.Client]
    stranger: httpx.Client
    settings: Settings
    database: Database
    root: Path

    def address(self, route: str, query: str) -> str:
        """An example of a route, about what is new for each question."""
        filled = (
            route.replace("{task_id}", str(self._request(route)))
            .replace("{what}", "files")
            .replace("{follow_up}", "cancel")
            .replace("{root}/{name}", "cosmo/cold")
            .replace("{version}/{file}", "x/dashboard.css")
        )
        return filled + self.fill(query)

    def fill(self, text: str) -> str:
        cosmo = os.fsencode(self.root / "cosmo")
        at = display.to_address(cosmo)
        runs, dot = display.to_address(b"runs"), display.to_address(b".")
        return text.format(cosmo=at, runs=runs, dot=dot, path=os.fsdecode(cosmo))

    def ask(self, client: httpx.Client, method: str, route: str, query: str = "") -> httpx.Response:
        form = {key: self.fill(value) for key, value in FORMS.get(route, {}).items()}
        data = form if method == "POST" else None
        # Streams are not read.
        with client.stream(method, self.address(route, query), data=data) as answer:
            if not route.endswith("/events"):
                answer.read()
            return answer

    def _request(self, route: str) -> int:
        with self.database.transaction() as session:
            if route.startswith("/tiering"):
                asked = TierRequest(root="cosmo", action=TierAction.STAGE)
                return tier.submit(session, MEMBER, asked, [b"runs"]).id
            if "{task_id}" not in route:
                return 0
            wanted = perms.Request(
                project="cosmo", action=Action(ActionKind.CHMOD, mode="g+r"), paths=(b".",),
                recursive=False, dry_run=True, client="test",
            )  # fmt: skip
            return submission.submit(session, self.settings, STAFF, wanted).id


@pytest.fixture
def site(
    settings: Settings, database: Database, tree: Path, rescan: Callable[[], int]
) -> Iterator[Site]:
    (tree / "cosmo").chmod(0o755)
    with database.transaction() as session:
        cosmo = catalog.project(session, "cosmo")
        cosmo.members.append(ProjectMember(username=PI.username, role=ProjectRole.PI))
        cosmo.members.append(ProjectMember(username=PROXY.username, role=ProjectRole.PROXY))
    rescan()
    rescan()
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(serving(settings, database, caller))
            for name, caller in PEOPLE.items()
        }
        nobody = stack.enter_context(httpx.Client(base_url=clients["staff"].base_url))
        yield Site(clients, nobody, settings, database, tree)


def test_every_route_is_in_the_table() -> None:
    assert set(TABLE) == set(routes())


def test_who_gets_what(site: Site) -> None:
    wrong = []
    for (method, route), (query, expected) in TABLE.items():
        found = tuple(
            site.ask(client, method, route, query).status_code for client in site.clients.values()
        )
        if found != expected:
            wrong.append((method, route, found))
        status = site.ask(site.stranger, method, route, query).status_code
        if status != OPEN.get((method, route), 401):
            wrong.append((method, route, (status,)))
    assert not wrong, wrong


KEPT = ("/", "/usage", "/browse")


def test_what_every_answer_has_to_have(site: Site) -> None:
    """Security headers, no caching, no cookie, no inside; also of refusals. Source: OWASP, "HTTP
    Security Response Headers Cheat Sheet"."""
    staff = site.clients["staff"]
    for (method, route), (query, _) in TABLE.items():
        refused = site.ask(site.stranger, method, route, query)
        other = staff.request("DELETE", site.address(route, query))
        elsewhere = staff.request(
            method, site.address(route, query), headers={"Host": "evil.example"}
        )
        assert (other.status_code, elsewhere.status_code) == (405, 400), route
        for answer in (site.ask(staff, method, route, query), refused, other, elsewhere):
            for name, value in SECURITY_HEADERS.items():
                assert answer.headers[name] == value, (route, name)
            caching = answer.headers["cache-control"]
            assert (
                caching == "no-store"
                # Kept by the browser, and asked for each time whether it still is so.
                or (route in KEPT and answer.is_success and caching == "private, no-cache")
                or route.startswith("/static/")
                or "/events" in route
            ), route
            assert "access-control-allow-origin" not in answer.headers
            assert route == "/logout" or "set-cookie" not in answer.headers, route
            assert route.endswith("/events") or "Traceback" not in answer.text


def test_no_form_is_read_that_is_too_long(site: Site) -> None:
    posts = [route for method, route in TABLE if method == "POST"]
    for route in posts:
        body = b"names=" + b"a" * (2 << 20)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = site.clients["staff"].post(site.address(route, ""), content=body, headers=headers)
        assert answer.status_code == 413, route
    with site.database.transaction(read_only=True) as session:
        assert set(session.scalars(sa.select(Task.state))) == {"queued"}


def test_who_sends_slowly_keeps_nobody_waiting(site: Site) -> None:
    """More than there are threads and connections to the database: half a header, half a form."""
    staff = site.clients["staff"]
    header = (
        f"POST /browse/selection HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    )
    form = (
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\ndo=csv&at="
    )
    with ExitStack() as stack:
        for number in range(120):
            address = staff.base_url.host, staff.base_url.port
            slow = stack.enter_context(socket.create_connection(address))
            slow.sendall((header + (form if number % 2 else "")).encode())
        assert staff.get("/", timeout=60).status_code == 200


def test_another_project_is_not_reached_by_its_name_or_path(site: Site) -> None:
    """lux is nobody's but staff's."""
    lux = os.fsencode(site.root / "lux")
    above = site.root / "cosmo/../lux"
    queries = ["?project=lux"]
    for folder in (lux, os.fsencode(above)):
        queries.append("?at=" + display.to_address(folder))
        queries.append("?path=" + os.fsdecode(folder))
    for path in ("/browse", "/browse.csv", "/usage", "/api/v1/usage/directory"):
        for query in queries:
            for name in ("member", "pi", "proxy", "stranger"):
                answer = site.clients[name].get(path + query)
                assert answer.status_code in (404, 422) or "run1.h5" not in answer.text, query
