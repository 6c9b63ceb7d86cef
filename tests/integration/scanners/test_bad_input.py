"""What people type wrongly: one line that says what is wrong, and an exit code of its kind."""

import re
from pathlib import Path

import pytest

from datamgr.config import Settings
from datamgr.db import Database
from scanners import scan
from tests import mounts, trees
from tests.commands import Command, Done, call

# Without the privileges by which root reads everything.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Path:
    """A directory with a file and directories, and no configuration."""
    (tmp_path / "tree/inside").mkdir(parents=True)
    trees.make_file(tmp_path / "file")
    return tmp_path


def assert_refused(done: Done, exit_code: int, message: str) -> None:
    """Exactly one line, `datamgr: ` and a sentence; nothing else."""
    assert re.fullmatch(f"datamgr: {message}\n", done.stderr), done.stderr
    assert (done.exit_code, done.stdout) == (exit_code, "")


REFUSED = {
    "a path that does not exist": (
        3, ["scan", "run", "{}/nowhere", "--name", "fs"], ".*/nowhere does not exist"),
    "a path through a file": (
        4, ["scan", "run", "{}/file/below", "--name", "fs"], ".*/file/below cannot be reached.*"),
    "a file": (
        4, ["scan", "run", "{}/file", "--name", "fs"], ".*/file is no directory"),
    "a path inside another": (
        4, ["scan", "run", "{}/tree", "{}/tree/inside", "--name", "fs"], ".* lies in .*"),
    "a name with a slash": (
        4, ["scan", "run", "{}/tree", "--name", "../fs"], "'../fs' is no name for a file system.*"),
    "an empty name": (
        4, ["scan", "run", "{}/tree", "--name", ""], "'' is no name for a file system.*"),
    "a size without sense": (
        4, ["project", "add", "p", "{}/tree", "--quota-bytes", "60 apples"],
        "--quota-bytes: '60 apples' is no size.*"),
    "a size beyond a bigint": (
        4, ["project", "add", "p", "{}/tree", "--quota-bytes", "9E"],
        "--quota-bytes: '9E' is out of range"),
    "a count without sense": (
        4, ["project", "add", "p", "{}/tree", "--quota-inodes", "-1"],
        "--quota-inodes: '-1' is no count.*"),
    "a project that is nowhere": (
        3, ["project", "set", "nobody", "--quota-bytes", "1T"], "there is no project 'nobody'.*"),
    "a project with a group that does not exist": (
        3, ["project", "add", "p", "{}/tree", "--group", "no-such"], "there is no unix group .*"),
    "a project with a PI that does not exist": (
        3, ["project", "add", "p", "{}/tree", "--pi", "no-such"], "there is no account .*"),
    "a project on a file": (
        4, ["project", "add", "p", "{}/file"], ".*/file is no directory"),
    "a project with an empty name": (
        4, ["project", "add", "", "{}/tree"], "'' is no name for a project"),
    "a project whose name is no UTF-8": (
        4, ["project", "set", "\udcff", "--quota-bytes", "1T"], r"'\\udcff' is no valid UTF-8"),
    "usage before any scan": (
        3, ["usage"], "there is no scan yet; run .*"),
    "a scan that does not exist": (
        3, ["scan", "show", "4711"], "there is no scan 4711; .*"),
    "a scan beyond any number": (
        3, ["scan", "show", "99999999999999999999"], "there is no scan 99999999999999999999; .*"),
    "a missing configuration": (
        3, ["--config", "{}/nowhere.toml", "scan", "list"], ".*/nowhere.toml does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line(
    place: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    exit_code, arguments, message = REFUSED[case]
    filled = [argument.replace("{}", str(place)) for argument in arguments]
    assert_refused(call(capfd, *filled), exit_code, message)


@pytest.mark.parametrize("case", ["a file", "a path that does not exist", "a size without sense"])
def test_a_process_says_the_same(command: Command, place: Path, case: str) -> None:
    exit_code, arguments, message = REFUSED[case]
    filled = [argument.replace("{}", str(place)) for argument in arguments]
    assert_refused(command(*filled), exit_code, message)


SCANNED = {
    "an unknown project": (["usage", "no-such"], 3, "there is no project 'no-such' in a .*"),
    "a project that is no UTF-8": (["usage", "\udcff"], 4, r"'\\udcff' is no valid UTF-8"),
    "a file system that is no UTF-8": (
        ["usage", "--filesystem", "\udcff"], 4, r"'\\udcff' is no valid UTF-8"),
    "an account with more digits than numbers have": (
        ["usage", "top", "--user", "9" * 5000], 3, "there is no account .*"),
    "an unknown file system": (
        ["usage", "top", "--filesystem", "no-such"], 3, "there is no scan of no-such yet; .*"),
    "an unknown account": (["usage", "top", "--user", "no-such"], 3, "there is no account .*"),
    "an account beyond any number": (
        ["usage", "top", "--user", "99999999999999999999"], 3, "there is no account .*"),
    "a directory that was not scanned": (["usage", "dir", "/nowhere"], 3, "/nowhere is no .*"),
    "growth of one scan": (["usage", "growth"], 3, "growth needs two scans .*"),
    "the current scan": (["scan", "remove", "1"], 6, "scan 1 is the current one of fs; .*"),
}  # fmt: skip


@pytest.fixture(scope="module")
def scanned(module_settings: Settings, module_database: Database) -> Settings:
    """With one scan."""
    request = scan.ScanRequest("fs", [bytes(Path(__file__).parent)], workers=1)
    assert scan.run(module_settings, module_database, request) == 1
    return module_settings


@pytest.mark.parametrize("case", SCANNED)
def test_questions_about_what_is_not_there_are_refused_in_one_line(
    scanned: Settings,
    case: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATAMGR_DATABASE__URL", scanned.database.url)
    arguments, exit_code, message = SCANNED[case]
    assert_refused(call(capfd, *arguments), exit_code, message)


@mounts.needs_root
@pytest.mark.root
def test_a_path_that_the_account_may_not_read_is_refused(command: Command, place: Path) -> None:
    (place / "tree").chmod(0o000)
    try:
        done = command("scan", "run", place / "tree", "--name", "fs", before=UNPRIVILEGED)
    finally:
        (place / "tree").chmod(0o755)
    assert_refused(done, 4, ".*/tree may not be read by this account")


def test_a_database_that_does_not_answer_is_named(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAMGR_DATABASE__URL", f"postgresql://nobody@/x?host={place}/no-socket")
    assert_refused(call(capfd, "usage"), 7, "the database does not answer: .*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scan]\nworker = 2\n", "unknown setting 'scan.worker' in .*"),
        ("[scan]\nworkers = -2\n", "setting 'scan.workers' in .*"),
        ("[scan\n", ".* is no valid TOML: .*"),
    ],
)
def test_a_wrong_configuration_is_named(
    place: Path, capfd: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (place / "datamgr.toml").write_text(text)
    assert_refused(call(capfd, "--config", place / "datamgr.toml", "usage"), 4, message)
