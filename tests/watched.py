"""Browsers that are watched: where they ask, what they complain about, who can use the page."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

from datamgr import config, db
from datamgr.cli import web

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def _failure(request: Request) -> list[str]:
    """A request that failed, unless we ended it ourselves by leaving the page."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.failure} {request.url}"]


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """The page; at the end nothing may have come from elsewhere and no error been reported."""
    host = "/".join(address.split("/")[:3]) + "/"
    requests: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(**options)
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.extend(_failure(request)))
    page.goto(address)
    yield page
    context.close()
    assert requests
    assert [url for url in requests if not url.startswith(host)] == []
    assert complaints == []


def another_link() -> str:
    """A second link, for another browser, as `datamgr identity link` gives it."""
    settings = config.load()
    with db.open_database(settings) as database:
        return web.new_link(settings, database, web.address_file(settings).read_text().strip())


def looks(page: Page) -> Iterator[str]:
    """The page on a desktop and on a phone, light and dark, as it is at the moment; their names."""
    for size in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            yield f"{size['width']}-{scheme}"


def require_usable(page: Page, name: str = "") -> None:
    """In each look the page is accessible, and nothing of it scrolls sideways.

    Named, it is also put into $SCREENSHOT_DIR, where somebody looks at it.
    """
    for look in looks(page):
        require_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, look
        if name and (folder := os.environ.get("SCREENSHOT_DIR")):
            page.screenshot(path=f"{folder}/{name}-{look}.png", full_page=True)


def require_accessible(page: Page) -> None:
    """Stop at what axe-core finds to be a serious hindrance for somebody.

    Its script is run by the debugger's protocol, which no Content Security Policy stops.
    """
    found = Axe().run(page).response["violations"]
    serious = [
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
