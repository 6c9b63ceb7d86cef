"""Groups of commands that are imported when they are called."""

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from datamgr.cli.lazy import Command, LazyGroup
from datamgr.errors import UnavailableError

TABLE = {
    "works": Command("lazy_example:works", "What works."),
    "lacks": Command("lazy_lacking:lacks", "What needs a module that is not there."),
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_example.py").write_text(
        "import click\n\n@click.command()\ndef works():\n    click.echo('it does')\n"
    )
    (tmp_path / "lazy_lacking.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("lazy_example", "lazy_lacking"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_help_lists_every_command_and_imports_none() -> None:
    done = CliRunner().invoke(LazyGroup("tool", table=TABLE), ["--help"])
    assert [line.split() for line in done.output.splitlines()[-2:]] == [
        ["works", "What", "works."],
        ["lacks", "What", "needs", "a", "module", "that", "is", "not", "there."],
    ]
    assert not {"lazy_example", "lazy_lacking"} & sys.modules.keys()


def test_a_command_is_imported_when_it_is_called() -> None:
    assert CliRunner().invoke(LazyGroup("tool", table=TABLE), ["works"]).output == "it does\n"
    assert CliRunner().invoke(LazyGroup("tool", table=TABLE), ["none"]).exit_code == 2


def test_a_missing_module_names_the_extra_that_has_it() -> None:
    context = click.Context(click.Command("tool"))
    with pytest.raises(UnavailableError, match=r"no_such_module_anywhere.*datamgr\[moon\]"):
        LazyGroup("tool", table=TABLE, extra="moon").get_command(context, "lacks")
    with pytest.raises(ModuleNotFoundError):
        LazyGroup("tool", table=TABLE).get_command(context, "lacks")
