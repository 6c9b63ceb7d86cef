"""The pages of managed roots, for who may see what."""

from pathlib import Path

import httpx
import pytest

from datamgr import tasks
from datamgr.config import Settings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from datamgr.tasks import State
from tests.integration.pages.conftest import ADA, STAFF, STRANGER, As
from tests.pages import text_of
from tiering import requests
from tiering.models import TierFailure, TierFile, TierVersion
from tiering.questions import Action
from tiering.request import Request

HOSTILE = b"a<b>\xff\n'\"\xe2\x80\xae.txt"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a managed root."""
    tier = TierSettings(root=tmp_path, archive=Path("/archive"))
    return settings.model_copy(update={"tier": {"cfs": tier}})


@pytest.fixture
def asked(database: Database) -> int:
    """A request of Ada's that failed with a file of a hostile name."""
    with database.transaction() as session:
        request = Request(root="cfs", action=Action.PUT, recursive=True)
        number = requests.submit(session, ADA, request, [b"run42", HOSTILE]).id
        session.add(TierFailure(task_id=number, path=HOSTILE, reason="it is <open>"))
        task = tasks.get(session, number)
        task.state = State.PARTIAL
        task.result = {"files": 3, "bytes": 3000, "unchanged": 1, "failed": 1, "seconds": 1.0}
    return number


def test_a_request_shows_what_could_not_be_done(as_: As, asked: int) -> None:
    page = as_(ADA).get(f"/tiering/requests/{asked}")
    assert page.status_code == 200
    words = text_of(page.text)
    assert "3 files, 2.9 KiB, 1 left as they were, 1 failed" in words
    assert "it is <open>" in words
    assert "<b>" not in page.text.replace("&lt;b&gt;", "")
    assert chr(0x202E) not in page.text
    listed = text_of(as_(ADA).get("/tiering?show=all").text)
    assert f"Put {asked}" in listed
    assert "done in part" in listed
    assert f"Put {asked}" not in text_of(as_(ADA).get("/tiering").text)


def test_others_learn_nothing_of_it(as_: As, asked: int) -> None:
    client = as_(STRANGER)
    assert client.get(f"/tiering/requests/{asked}").status_code == 403
    assert f"Put {asked}" not in client.get("/tiering?show=all").text
    assert client.get("/tiering/requests/999999").status_code == 404
    assert f"Put {asked}" in as_(STAFF).get("/tiering?show=all").text


def test_a_waiting_request_is_cancelled_by_its_owner_alone(as_: As, database: Database) -> None:
    with database.transaction() as session:
        number = requests.submit(session, ADA, Request(root="cfs", action=Action.PUT), [b"x"]).id
    page = as_(ADA).get(f"/tiering/requests/{number}")
    assert "<button>Cancel</button>" in page.text
    assert as_(STRANGER).post(f"/tiering/requests/{number}/cancel").status_code == 403
    answer = as_(ADA).post(f"/tiering/requests/{number}/cancel")
    assert answer.status_code == 303
    with database.transaction(read_only=True) as session:
        assert tasks.get(session, number).state == State.CANCELLED


def test_it_says_who_waits_for_files_to_come_back(as_: As, database: Database) -> None:
    assert "Nobody of your account waits" in text_of(as_(ADA).get("/tiering").text)
    with database.transaction() as session:
        for caller in (ADA, STRANGER):
            requests.submit(session, caller, Request(root="cfs", action=Action.STAGE), [b"x"])
        requests.submit(session, ADA, Request(root="cfs", action=Action.PUT), [b"x"])
    words = text_of(as_(ADA).get("/tiering").text)
    assert "Recalls: 1 request waits for files to come back to disk, 0 are under way;" in words
    words = text_of(as_(STAFF).get("/tiering").text)
    assert "Recalls: 2 requests wait for files to come back to disk" in words
    assert "of 2 accounts" in words


def test_roots_show_files_and_bytes_by_state(client: httpx.Client, database: Database) -> None:
    with database.transaction() as session:
        for number, state in enumerate("BBH"):
            file = TierFile(
                root="cfs", filesystem="f", inode=number, generation=1, path=b"x", state=state
            )
            session.add(file)
            session.flush()
            version = TierVersion(
                file_id=file.id, size_bytes=1 << 20, mtime_ns=0, ctime_ns=0, sha256=b"", adler32=0
            )
            session.add(version)
            session.flush()
            file.version_id = version.id
    words = text_of(client.get("/tiering").text)
    assert "2.0 MiB 2 files" in words
    assert "1.0 MiB 1 file" in words
