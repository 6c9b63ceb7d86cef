"""Builds the web application from the features' routers, the pages and the guard before them."""

import hashlib
import importlib
import threading
from importlib import metadata
from typing import Any

from fastapi import Depends, FastAPI

from datamgr.api import auth, guard, oidc, problems
from datamgr.api.auth import Access
from datamgr.api.memory import Memory
from datamgr.api.rate import RateLimit
from datamgr.config import Settings
from datamgr.db import Database

# Features and pages appear here as strings: the core imports none of them.
ROUTERS = (
    "datamgr.api.login:router",
    "scanners.routes:router",
    "pitoolbox.routes:router",
    "hdf5_tools.routes:router",
    "tiering.routes:router",
    "dashboard.pages:router",
    "dashboard.policy_routes:api",
    "dashboard.hdf5:router",
)
RENDER = "dashboard.rendering:page"
RECALL = "dashboard.remembered:recall"

LOGINS_A_MINUTE = 60  # from one address; a login at a provider asks twice
MAX_FIELDS = 2000


def create_app(settings: Settings, database: Database, access: Access) -> FastAPI:
    """The application over a database that stays open for as long as it serves.

    Every request passes the guard, every form is checked, and every answer, errors included,
    carries the guard's headers.

    Raises:
        InvalidError: `web.login` is `oidc`, and the provider is not configured.
    """
    app = FastAPI(
        title="datamgr",
        summary="Usage of file systems, projects and people.",
        openapi_url="/api/openapi.json",
        # The documentation pages of FastAPI load their scripts from another host.
        docs_url=None,
        redoc_url=None,
        max_body_size=guard.MAX_FORM_BYTES,
        form_limits={"max_fields": MAX_FIELDS, "max_files": 0},
    )
    app.state.settings = settings
    app.state.database = database
    app.state.access = access
    app.state.stopping = threading.Event()
    app.state.render = _load(RENDER)
    app.state.recall = _load(RECALL)
    app.state.memory = Memory(settings.web.remembered_mib << 20)
    # Tells answers of other settings and versions apart, also those that browsers keep.
    made_of = f"{metadata.version('datamgr')} {access} {settings!r}"
    app.state.fingerprint = hashlib.sha256(made_of.encode()).hexdigest()
    app.state.login_limit = RateLimit(LOGINS_A_MINUTE, 60)
    if settings.web.login == "oidc":
        app.state.provider = oidc.Provider(settings.oidc)
    problems.install(app)
    for target in ROUTERS:
        app.include_router(_load(target), dependencies=[Depends(auth.require_form_token)])
    guard.install(app)
    return app


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
