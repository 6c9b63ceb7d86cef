"""The pages in a real browser, served by a real `datamgr web`."""

import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from datamgr import catalog, identity
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from scanners import scan
from tests.e2e.conftest import HOSTILE, Site, site
from tests.integration.pages.conftest import MIB, write
from tests.watched import opened

pytestmark = pytest.mark.browser

# Every visible text against the nearest ground that is painted. Source: WCAG 2.2, 1.4.3.
CONTRASTS = """() => {
  const rgba = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .map(e => {
      const [a, b] = [rgba(getComputedStyle(e).color), ground(e)].map(light);
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 120)];
    });
}"""


@pytest.fixture(scope="module")
def shown(
    site_settings: Settings, site_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Two projects, scanned twice: cosmo over its quota of 3 MiB, lux with a name to fear.

    Tests only look at them.
    """
    root = tmp_path_factory.mktemp("shown") / "cfs"
    files = {b"cosmo/runs/snap_001.hdf5": 3, b"cosmo/runs/snap_002.hdf5": 1, b"lux/" + HOSTILE: 1}
    for name, size_mib in files.items():
        write(os.fsencode(root) + b"/" + name, size_mib * MIB)
    staff = identity.Caller("root", 0, frozenset(), identity.Role.STAFF)
    with site_database.transaction() as session:
        for project, quota_bytes in (("cosmo", 3 * MIB), ("lux", 10 * MIB)):
            change = ProjectChange(
                path=os.fsencode(root / project), quota_bytes=quota_bytes, quota_inodes=100
            )
            catalog.add_project(session, staff, project, change)
    request = scan.ScanRequest("cfs", [os.fsencode(root)], workers=1)
    scan.run(site_settings, site_database, request)
    write(os.fsencode(root) + b"/lux/run2.h5", 2 * MIB)
    scan.run(site_settings, site_database, request)
    with site(site_settings, site_database) as made:
        yield made


@pytest.fixture
def link(shown: Site) -> str:
    """Opens the pages of that scan."""
    return shown.link()


def goto(page: Page, path: str) -> None:
    """Open another page of the same server; BROWSE is the listing of the project lux."""
    if path == "BROWSE":
        page.get_by_role("link", name="lux").first.click()
        page.get_by_role("link", name="Browse the files").click()
        page.wait_for_url("**/browse*")
    else:
        page.goto("/".join(page.url.split("/")[:3]) + path)


def bar_widths(page: Page, section: str) -> list[float]:
    """Lengths of the bars of a section in parts of their tracks, as painted."""
    widths: list[float] = page.locator(f"section[aria-labelledby={section}] .bar").evaluate_all(
        """bars => bars.map(bar => {
            const fill = bar.querySelector(".fill");
            const track = bar.querySelector(".track").getBoundingClientRect().width;
            return fill ? fill.getBoundingClientRect().width / track : 0;
        })"""
    )
    return widths


def test_the_page_shows_bars_with_their_numbers(browser: Browser, link: str) -> None:
    """lux: 3 MiB and little more of 10 MiB; 4 inodes of 100. cosmo: over 3 MiB; 4 of 100."""
    with opened(browser, link, viewport={"width": 1280, "height": 900}) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("Projects")
        projects = page.get_by_role("table").first
        cosmo, lux = (projects.get_by_role("row").filter(has_text=n) for n in ("cosmo", "lux"))
        expect(cosmo).to_contain_text("over quota")
        expect(cosmo).to_contain_text(re.compile(r"of 3\.0.MiB\s+13\d %"))
        expect(lux).to_contain_text(re.compile(r"of 10\.0.MiB\s+30 %"))
        cosmo_bytes, cosmo_inodes, lux_bytes, lux_inodes = bar_widths(page, "projects")[:4]
        assert cosmo_bytes == pytest.approx(1.0)
        assert cosmo_inodes == pytest.approx(0.04, abs=0.002)
        assert lux_bytes == pytest.approx(0.30, abs=0.01)
        assert lux_inodes == pytest.approx(0.03, abs=0.002)
        goto(page, "/usage")
        assert bar_widths(page, "files")[0] == pytest.approx(1.0)
        biggest = page.get_by_role("table").filter(has_text="snap_001.hdf5")
        expect(biggest.get_by_role("row").filter(has_text="snap_001")).to_contain_text(
            "3.0\u00a0MiB"
        )
        growth = page.get_by_role("region", name="Growth since the scan before")
        expect(growth).to_contain_text("+2.0\u00a0MiB")


def test_the_ticket_leaves_the_address_and_links_work_without_it(
    browser: Browser, link: str
) -> None:
    with opened(browser, link) as page:
        assert "ticket" not in page.url
        page.get_by_role("link", name="lux").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Project lux")
        page.get_by_role("link", name="last read").click()
        expect(page.get_by_role("link", name="last read")).to_have_attribute("aria-current", "true")
        assert "basis=atime" in page.url
        page.get_by_role("link", name="All projects").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Projects")


def test_sorting_filter_and_details_stay_on_the_page(
    browser: Browser, link: str, shown: Site
) -> None:
    """With scripts nothing is loaded anew, and focus and typed words stay; without, all works."""
    with opened(browser, link) as page:
        page.evaluate("window.mark = 'same page'")
        page.get_by_role("link", name="name", exact=True).click()
        page.wait_for_url("**/?sort=name")
        projects = page.get_by_role("table").first.get_by_role("rowheader")
        expect(projects.first).to_contain_text("(no project)")
        page.get_by_label("Filter").press_sequentially("lux")
        expect(projects).to_have_count(1)
        expect(page.get_by_label("Filter")).to_be_focused()
        expect(page.get_by_label("Filter")).to_have_value("lux")
        page.get_by_role("link", name="Usage details of lux").click()
        expect(page.get_by_role("table", name="Usage by user")).to_contain_text("root")
        expect(page.get_by_role("link", name="Hide usage details")).to_be_focused()
        assert page.evaluate("window.mark") == "same page"
        page.go_back()
        expect(page.get_by_role("table", name="Usage by user")).to_have_count(0)
        assert page.evaluate("window.mark") == "same page"
    with opened(browser, shown.link(), java_script_enabled=False) as page:
        page.get_by_label("Filter").fill("lux")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("table").first).not_to_contain_text("cosmo")
        page.get_by_role("link", name="Usage details of lux").click()
        expect(page.get_by_role("table", name="Usage by group")).to_contain_text("root")


def test_it_works_without_scripts(browser: Browser, link: str) -> None:
    with opened(browser, link, java_script_enabled=False) as page:
        expect(page.get_by_role("table").first).to_contain_text("cosmo")
        expect(page.locator(".bar.over")).to_be_visible()
        page.get_by_role("link", name="all projects together").click()
        page.get_by_role("link", name="Show the directories that grew").click()
        growth = page.get_by_role("region", name="Growth since the scan before")
        expect(growth).to_contain_text("/lux")
        page.get_by_role("link", name="All projects").click()
        page.get_by_role("link", name="cosmo").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Project cosmo")


PAGES = (
    "/?details=cfs%2Flux",
    "/usage?directories=true",
    "/usage?filesystem=cfs&project=lux",
    "BROWSE",
)


@pytest.mark.parametrize("path", PAGES)
def test_nothing_scrolls_sideways(browser: Browser, link: str, path: str) -> None:
    """Not even on a small phone, with a path of 200 characters and no slash."""
    with opened(browser, link) as page:
        goto(page, path)
        tables = page.get_by_role("table").count()
        for width in (320, 390, 700, 820, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            outside = page.locator("td, tbody th, .bar, .tiles div, svg").evaluate_all(
                "(found, width) => found.filter(e => e.getBoundingClientRect().right > width)"
                ".map(e => e.outerHTML)",
                width,
            )
            assert outside == []
            # Rows that became blocks are still a table.
            assert page.get_by_role("table").count() == tables > 0


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Browser, link: str, scheme: str, path: str) -> None:
    with opened(browser, link, color_scheme=scheme) as page:
        goto(page, path)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 40
        assert [found for found in contrasts if found[0] < 4.5] == []


def test_hostile_names_stay_text(browser: Browser, link: str) -> None:
    with opened(browser, link) as page:
        goto(page, "/usage")
        row = page.get_by_role("row").filter(has_text="fdp.exe")
        expect(row.first).to_contain_text(
            "<script>document.title='owned'<script>\\n\\xff\\u202efdp"
        )
        assert page.title() == "Usage · datamgr"
        assert page.locator("script").count() == 1


def test_the_map_and_the_browser_lead_down_and_up(browser: Browser, link: str) -> None:
    with opened(browser, link) as page:
        page.get_by_role("link", name="cosmo").first.click()
        page.evaluate("window.mark = 'same page'")
        page.locator(".treemap a").first.click()
        map_ = page.get_by_role("region", name="Map of space")
        expect(map_).to_contain_text("/cosmo/runs")
        expect(map_.get_by_role("link", name="One level up")).to_be_visible()
        assert page.evaluate("window.mark") == "same page"
        page.get_by_role("link", name="Browse the files").click()
        expect(page.get_by_role("table")).to_contain_text("snap_001.hdf5")
        page.get_by_label("Name", exact=True).fill("*2.hdf5")
        page.get_by_role("button", name="Search below").click()
        expect(page.get_by_role("table")).not_to_contain_text("snap_001")
        expect(page.get_by_role("table")).to_contain_text("snap_002.hdf5")
        page.get_by_role("list", name="Path").get_by_role("link", name="cosmo").click()
        expect(page.get_by_role("table").get_by_role("link", name="runs/")).to_be_visible()


def test_ages_colour_by_the_chosen_time_without_leaving_the_place(
    browser: Browser, link: str
) -> None:
    with opened(browser, link) as page:
        page.get_by_role("link", name="cosmo").first.click()
        page.get_by_role("link", name="last read").click()
        expect(page.get_by_role("link", name="last read")).to_be_focused()
        expect(page.get_by_role("heading", name="Biggest files")).to_contain_text("last read")
        expect(page.get_by_role("region", name="Biggest files")).to_match_aria_snapshot("""
          - region /Biggest files/:
            - heading /Biggest files/ [level=2]
            - paragraph:
              - link "CSV"
            - list "Colours of ages"
            - table:
              - rowgroup:
                - row "Path Bar On disk Age"
        """)


@pytest.mark.parametrize("path", PAGES)
def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    browser: Browser, link: str, path: str
) -> None:
    with opened(browser, link) as page:
        goto(page, path)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        reached = 0
        for _ in range(page.locator(":is(a, input, button, summary):visible").count()):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", page.evaluate("document.activeElement.outerHTML")[:200]
            reached += 1
            page.keyboard.press("Tab")
        assert reached > 5


def test_before_the_first_scan_it_says_what_to_do(browser: Browser, address: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/login/link\?ticket=[\w-]{43}", address)
    with opened(browser, address) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("No scan yet")
        expect(page.get_by_role("main")).to_contain_text("datamgr scan run PATH --name NAME")


def test_a_stranger_is_told_how_to_get_in(browser: Browser, link: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    response = page.goto(link.split("login", maxsplit=1)[0])
    assert response is not None
    assert response.status == 401
    expect(page.get_by_role("main")).to_contain_text("Open the link that `datamgr web` printed")
    context.close()
