"""The pages of managed roots in a real browser: readable by everybody, and a request cancelled."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from datamgr import identity, tasks
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.tasks import State
from tests.e2e.conftest import HOSTILE
from tests.watched import opened, require_usable
from tiering import requests
from tiering.models import TierFailure
from tiering.questions import Action
from tiering.request import Request

pytestmark = pytest.mark.browser


@pytest.fixture
def asked(
    settings: Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """A request that has ended with a failure, and one that waits, of a managed root."""
    tier = {"cfs": {"root": str(tmp_path), "archive": "/archive"}}
    monkeypatch.setenv("DATAMGR_TIER", json.dumps(tier))
    caller = identity.current(settings)
    with database.transaction() as session:
        request = Request(root="cfs", action=Action.PUT, recursive=True)
        ended = requests.submit(session, caller, request, [b"cosmo/run42", HOSTILE]).id
        session.add(TierFailure(task_id=ended, path=HOSTILE, reason="somebody has it open"))
        task = tasks.get(session, ended)
        task.state, task.finished_at = State.PARTIAL, tasks.now(session)
        task.result = {
            "files": 12_345, "bytes": 9 << 30, "unchanged": 7, "failed": 1, "seconds": 60.0,
        }  # fmt: skip
        waiting = requests.submit(session, caller, request, [b"cosmo/run43"]).id
    return ended, waiting


def test_the_pages_can_be_used_by_everybody(
    asked: tuple[int, int], browser: Browser, address: str
) -> None:
    with opened(browser, address) as page:
        base = address.split("/login", maxsplit=1)[0]
        for name, path in (("tiering", "?show=all"), ("request", f"/requests/{asked[0]}")):
            page.goto(f"{base}/tiering{path}")
            require_usable(page, name)
        assert "owned" not in page.title()


def test_a_waiting_request_is_cancelled_by_a_click(
    asked: tuple[int, int], browser: Browser, address: str, database: Database
) -> None:
    with opened(browser, address) as page:
        page.goto(address.split("/login", maxsplit=1)[0] + "/tiering")
        page.get_by_role("link", name=f"Put {asked[1]}").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", name="cancelled")).to_be_visible()
    with database.transaction(read_only=True) as session:
        assert tasks.get(session, asked[1]).state == State.CANCELLED
