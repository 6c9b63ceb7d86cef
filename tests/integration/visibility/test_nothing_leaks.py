"""No command, page or route says a name that its reader could not list."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from datamgr import identity
from datamgr.api.app import create_app
from datamgr.api.auth import Access
from datamgr.cli import main
from datamgr.identity import Caller
from tests.integration.visibility.conftest import ADA, BOB, CY, STAFF, STRANGER, Scanned
from tests.integration.visibility.test_modes import expected
from tests.mounts import needs_root
from tests.served import serving

pytestmark = [needs_root, pytest.mark.root]
COMMANDS = [
    "usage", "usage --by user", "usage --by group", "usage top --files 100",
    "usage top --dirs 100", "usage age", "usage growth -n 100", "usage dir {root}",
    "usage dir {root}/cosmo", "usage dir {root}/cosmo/secret", "usage trend cosmo",
    "usage reconcile", "usage duplicates --larger-than 0", "find", "find {root}/cosmo",
    "find --project lab", "scan show 1", "scan show 2", "alerts list",
    *(f"usage export {table} --to -" for table in (
        "projects", "users", "groups", "directories", "top-files", "ages", "history", "files")),
]  # fmt: skip
QUESTIONS = [
    "/", "/?directories=true&top=100", "/?project=cosmo", "/api/v1/usage/projects",
    "/api/v1/usage/owners", "/api/v1/usage/top?what=files&number=100",
    "/api/v1/usage/top?what=dirs&number=100", "/api/v1/usage/ages",
    "/api/v1/usage/growth?number=100", "/api/v1/usage/directory?path={root}",
    "/api/v1/usage/directory?path={root}/cosmo", "/api/v1/usage/directory?path={root}/lab",
]  # fmt: skip


@contextmanager
def acting_as(caller: Caller, patch: pytest.MonkeyPatch) -> Iterator[None]:
    with patch.context() as patched:
        patched.setattr(identity, "current", lambda settings: caller)
        yield


@pytest.fixture(scope="session")
def grown(registered: Scanned) -> Scanned:
    """Scanned again after everything grew, with an error in a hidden directory."""
    for path, _, _ in os.walk(registered.root):
        (Path(path) / f"new-in-{os.path.basename(path)}").write_bytes(b"y" * 5000)
        (Path(path) / "same-everywhere").write_bytes(b"z" * 5000)
    registered.again()
    return registered


def names(scanned: Scanned, paths: set[bytes]) -> set[str]:
    """What tells of a directory: its own name and those of the files in it."""
    found = set()
    for path in map(os.fsdecode, paths):
        name = os.path.basename(path)
        found |= {f"/{name}", f"file-in-{name}", f"new-in-{name}"}
    return found


def said(scanned: Scanned, patch: pytest.MonkeyPatch, caller: Caller, capfd: object) -> str:
    """Everything that an account can make datamgr say, as text."""
    root = str(scanned.root)
    texts = []
    with acting_as(caller, patch):
        for command in COMMANDS:
            argv = command.format(root=root).split()
            for more in ([], ["--json"] if "export" not in argv else []):
                main.run([*argv, *more])
                texts.append(capfd.readouterr().out)  # type: ignore[attr-defined]
        main.run(["find", "--null"])
        texts.append(capfd.readouterr().out)  # type: ignore[attr-defined]
        app = create_app(scanned.settings, scanned.database, Access("k" * 43))
        headers = {"Authorization": "Bearer " + "k" * 43}
        with (
            serving(app) as address,
            httpx.Client(base_url=address, headers=headers) as client,
        ):
            answers: list[httpx.Response] = [client.get(q.format(root=root)) for q in QUESTIONS]
        assert all(answer.status_code in (200, 404) for answer in answers)
        # A refusal repeats what was asked.
        texts += [OWN_WORDS.sub("", a.text) for a in answers if a.status_code == 200]
    return "\n".join(texts)


# What pages say of their own and what is no name: a hidden directory is called `project`.
OWN_WORDS = re.compile(r"<wbr>|</label>|/projects\.csv")


@pytest.mark.parametrize("caller", [ADA, BOB, CY, STRANGER], ids=lambda caller: caller.username)
def test_names_of_hidden_directories_appear_nowhere(
    caller: Caller,
    grown: Scanned,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATAMGR_DATABASE__URL", grown.settings.database.url)
    monkeypatch.setenv("DATAMGR_STATE_DIR", str(grown.settings.state_dir))
    visible = expected(grown, caller)
    if caller is not ADA:
        visible.discard(os.fsencode(grown.root / "cosmo/listed"))
    hidden = set(grown.directories) - visible
    # The tops of one's projects and what the scans are called are no secrets.
    known = {os.fsencode(path) for path, people in grown.tops.items() if caller in people}
    known |= {os.fsencode(grown.root)}
    above = {b"/".join(path.split(b"/")[:n]) for path in known for n in range(path.count(b"/") + 2)}

    text = said(grown, monkeypatch, caller, capfd)

    secret = names(grown, hidden - above) - names(grown, visible)
    assert {name for name in secret if name in text} == set()
    assert {name for name in names(grown, visible) if name not in text} == set()


def test_staff_reads_all_of_it(
    grown: Scanned, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The test above could fail: to somebody all the names are said."""
    monkeypatch.setenv("DATAMGR_DATABASE__URL", grown.settings.database.url)
    monkeypatch.setenv("DATAMGR_STATE_DIR", str(grown.settings.state_dir))
    text = said(grown, monkeypatch, STAFF, capfd)
    assert {name for name in names(grown, set(grown.directories)) if name not in text} == set()


def test_errors_are_named_to_staff_only(
    grown: Scanned, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATAMGR_DATABASE__URL", grown.settings.database.url)
    monkeypatch.setenv("DATAMGR_STATE_DIR", str(grown.settings.state_dir))
    monkeypatch.setenv("DATAMGR_SCAN__MAX_DEPTH", "1")
    assert main.run(["scan", "run", str(grown.root), "--name", "shallow", "--json"]) == 0
    number = json.loads(capfd.readouterr().out)["rows"][0]["id"]
    for caller, is_named in ((STAFF, True), (ADA, False)):
        with acting_as(caller, monkeypatch):
            assert main.run(["scan", "show", str(number), "--json"]) == 0
        answer = json.loads(capfd.readouterr().out)
        assert answer["scan"]["error_count"] > 0
        assert bool(answer["rows"]) is is_named
