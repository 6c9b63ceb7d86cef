"""The application served as it is configured, and browsers that keep cookies."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from datamgr.api import auth
from datamgr.api.app import create_app
from datamgr.audit import AuditEvent
from datamgr.config import Settings
from datamgr.config_web import OidcSettings, WebSettings
from datamgr.db import Database
from tests.served import serving

TOKEN = "k" * 43

Serve = Callable[..., str]


def configured(settings: Settings, oidc: OidcSettings | None = None, **web: Any) -> Settings:
    """Settings with these about the web."""
    section = WebSettings(**(settings.web.model_dump(exclude_unset=True) | web))
    return settings.model_copy(update={"web": section, "oidc": oidc or settings.oidc})


def application(settings: Settings, database: Database) -> FastAPI:
    return create_app(settings, database, auth.of_settings(settings, TOKEN, "127.0.0.1"))


@pytest.fixture
def serve(settings: Settings, database: Database) -> Iterator[Serve]:
    """Serves the application with these settings of the web; its address."""
    with ExitStack() as stack:
        yield lambda oidc=None, **web: stack.enter_context(
            serving(application(configured(settings, oidc, **web), database))
        )


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    """Somebody who keeps cookies and follows nothing by itself."""
    with httpx.Client() as client:
        yield client


def audited(database: Database) -> list[tuple[str, str]]:
    """Who did what, in order."""
    with database.transaction() as session:
        rows = session.execute(
            sa.select(AuditEvent.actor, AuditEvent.action).order_by(AuditEvent.id)
        )
        return [(actor, action) for actor, action in rows]


def form_token(page: str) -> str:
    """What the forms of a page carry."""
    return page.split('name="form_token" value="')[1].split('"', maxsplit=1)[0]


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory that every account may search; those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="datamgr-login-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
