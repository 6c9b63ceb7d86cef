"""Write docs/images/*.png: the web pages over an installation made for it, in Debian's Chromium.

As root it has a project with an archive and permission requests, too; see `example_site`.
"""

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

import example_site
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
SIZES = {"": {"width": 1280, "height": 900}, "-phone": {"width": 390, "height": 844}}


def main(images: Path) -> None:
    """Write every page into `images`: on a desktop in light, on a phone in dark."""
    images.mkdir(parents=True, exist_ok=True)
    # Short, for it is in the pictures.
    with (
        tempfile.TemporaryDirectory(prefix="dm", dir="/tmp") as folder,
        example_site.site(Path(folder)) as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, page in pages(site.beamline).items():
            shoot(browser, site.address, page, images / name)
        browser.close()


def pages(beamline: Path | None) -> dict[str, str]:
    """The addresses by the names of the pictures."""
    found = {
        "home": "/?details=usr%2Flib",
        "project": "/usage?filesystem=usr&project=lib",
        "browse": "/browse?at=" + _encoded("/usr/lib"),
    }
    if beamline is not None:
        found |= {
            "browse-tiers": "/browse?at=" + _encoded(beamline),
            "tiering": "/tiering?show=all",
            "policy": "/tiering/policies/beamline/cold",
            "permissions": "/perms/browse?project=beamline",
            "operations": "/operations",
        }
    return found


def _encoded(path: str | Path) -> str:
    return base64.urlsafe_b64encode(str(path).encode()).decode().rstrip("=")


def another_link() -> str:
    """A link for one browser; each is good once."""
    argv = [*example_site.PROGRAM, "identity", "link"]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def shoot(browser: Browser, address: str, page: str, image: Path) -> None:
    """Write `<image>[-phone].png` of one page; with `--all` each in light and dark, as a whole."""
    root = address.split("/login/", maxsplit=1)[0]
    every = "--all" in sys.argv
    for size, viewport in SIZES.items():
        for scheme in ("light", "dark") if every else ("dark" if size else "light",):
            context = browser.new_context(viewport=viewport, color_scheme=scheme)
            tab = context.new_page()
            tab.goto(another_link())
            tab.goto(root + page)
            suffix = f"-{scheme}" if every else ""
            tab.screenshot(path=f"{image}{size}{suffix}.png", full_page=every)
            context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
