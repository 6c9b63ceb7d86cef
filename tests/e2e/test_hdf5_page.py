"""The search of HDF5 files in a real browser."""

import json
from collections.abc import Iterator

import h5py
import pytest
from playwright.sync_api import Browser, expect

from datamgr.config import Settings
from datamgr.db import Database
from hdf5_tools.index import update
from tests.e2e.conftest import Site, site
from tests.e2e.test_page import CONTRASTS, goto, opened

pytestmark = pytest.mark.browser
LONG = "x" * 200


@pytest.fixture(scope="module")
def indexed(
    site_settings: Settings, site_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Three files in an index, one with a name and values of 200 letters."""
    folder = tmp_path_factory.mktemp("hdf5")
    data = folder / "data"
    data.mkdir()
    for name, exposure in (("one", 0.1), ("two", 2.0), (LONG, 4.0)):
        with h5py.File(data / f"{name}.h5", "w") as file:
            made = file.create_dataset("entry/data", (4, 5), "f4")
            made.attrs["exposure"], made.attrs["exposure_units"] = exposure, "s"
            made.attrs["sample"] = LONG
    update.update(folder / "index", [bytes(data)])
    index = json.dumps({"beam": {"path": str(folder / "index")}})
    with site(site_settings, site_database, DATAMGR_HDF5__INDEX=index) as shown:
        yield shown


@pytest.fixture
def link(indexed: Site) -> str:
    """Opens the pages of that index."""
    return indexed.link()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_search_is_typed_and_answered(browser: Browser, link: str, scripts: bool) -> None:
    with opened(browser, link, java_script_enabled=scripts) as page:
        goto(page, "/hdf5")
        expect(page.get_by_role("table")).to_contain_text("exposure_units")
        page.get_by_label("Query").fill("exposure > 1500 ms")
        page.get_by_label("Show").fill("exposure")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("table")).to_contain_text("two.h5")
        expect(page.get_by_role("table")).not_to_contain_text("one.h5")
        expect(page.get_by_label("Query")).to_have_value("exposure > 1500 ms")
        page.get_by_label("Whole files").check()
        page.get_by_label("Query").fill("exposure > 1 parsnip")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("alert")).to_contain_text("there is no unit 'parsnip'")
        page.get_by_role("link", name="All attributes").click()
        page.get_by_role("link", name="sample").click()
        expect(page.get_by_role("table")).to_contain_text("one.h5")


PAGES = ("/hdf5", "/hdf5?query=has+sample&show=sample,exposure", "/hdf5?query=wrong")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser: Browser, link: str, path: str, scheme: str) -> None:
    with opened(browser, link, color_scheme=scheme) as page:
        goto(page, path)
        for width in (320, 700, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 10
        assert [found for found in contrasts if found[0] < 4.5] == []
