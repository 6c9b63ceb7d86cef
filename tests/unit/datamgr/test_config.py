"""Where settings come from, which one wins, and what is said about a wrong one."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from datamgr import config, config_file
from datamgr.errors import InvalidError, NotFoundError


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_everything_has_a_default(tmp_path: Path) -> None:
    settings = config.load()
    assert settings.database.url == "embedded"
    assert settings.scan_store_dir == tmp_path / "state/scans"
    assert config.Settings.model_fields.keys() >= {"scan", "database", "tasks"}


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "a.toml", "[scan]\nworkers = 3\nkeep_scans = 5\n")
    monkeypatch.setenv("DATAMGR_SCAN__WORKERS", "7")
    scan = config.load(file).scan
    assert (scan.workers, scan.keep_scans) == (7, 5)


def test_the_named_file_wins_over_the_environment_s_and_that_over_the_user_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def workers(explicit: str | None = None) -> int:
        return config.load(explicit).scan.workers

    assert workers() == 0
    written(tmp_path / "config/datamgr/datamgr.toml", "[scan]\nworkers = 1\n")
    assert workers() == 1
    named = written(tmp_path / "named.toml", "[scan]\nworkers = 2\n")
    monkeypatch.setenv("DATAMGR_CONFIG", named)
    assert workers() == 2
    assert workers(written(tmp_path / "explicit.toml", "[scan]\nworkers = 3\n")) == 3


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_named_file_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    missing = str(tmp_path / "missing.toml")
    monkeypatch.setenv("DATAMGR_CONFIG", missing)
    with pytest.raises(NotFoundError, match=r"missing\.toml does not exist"):
        config.load(missing if by == "option" else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scam = 1", "unknown setting 'scam'"),
        ("[scan]\nworker = 1", r"unknown setting 'scan\.worker'"),
        ("[scan]\nworkers = 'many'", r"setting 'scan\.workers'"),
        ("[scan]\nworkers = 257", r"setting 'scan\.workers'"),
        ("[scan]\nkeep_scans = 1", r"setting 'scan\.keep_scans'"),
        ("[tasks]\nheartbeat_s = 'soon'", r"setting 'tasks\.heartbeat_s' in .*: 'soon' is no dur"),
        ("scan = 1", "setting 'scan'"),
        ("[scan", "is no valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path / "wrong.toml", text)
    with pytest.raises(InvalidError, match=message) as caught:
        config.load(file)
    assert "wrong.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAMGR_SCAN__WORKERS", "-1")
    with pytest.raises(InvalidError, match=r"setting 'scan\.workers' in the DATAMGR_\*"):
        config.load()
    monkeypatch.delenv("DATAMGR_SCAN__WORKERS")
    monkeypatch.setenv("DATAMGR_SCAN__WORKER", "1")
    with pytest.raises(InvalidError, match=r"unknown setting 'scan\.worker'"):
        config.load()


def test_no_valid_utf_8_is_no_valid_toml(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"state_dir = '/caf\xe9'\n")
    with pytest.raises(InvalidError, match="is no valid TOML"):
        config.load(str(tmp_path / "latin.toml"))


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        config.load(str(tmp_path))


def test_durations_are_written_with_a_unit_or_in_seconds(tmp_path: Path) -> None:
    file = written(tmp_path / "a.toml", "[tasks]\nheartbeat_s = '2min'\nlease_s = 600\n")
    tasks = config.load(file).tasks
    assert (tasks.heartbeat_s, tasks.lease_s) == (120.0, 600.0)


def test_settings_do_not_change(tmp_path: Path) -> None:
    settings = config.load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.scan.workers = 4  # type: ignore[misc]


def test_paths_are_absolute_and_know_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DATAMGR_STATE_DIR")
    file = written(tmp_path / "a.toml", "state_dir = '~/here'\n[scan]\nstore_dir = 'scans'\n")
    settings = config.load(file)
    assert settings.state_dir == tmp_path / "here"
    assert settings.scan_store_dir == Path.cwd() / "scans"


def test_a_place_that_cannot_be_looked_at_has_no_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the home of the account that called sudo; here by a name that no directory can have."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/" + "x" * 300)
    assert config_file.find_config(None) in (None, config_file.SYSTEM_CONFIG)
    with pytest.raises(InvalidError, match="cannot be read: File name too long"):
        config.load("/" + "x" * 300)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "state_dir = 'here'",
        "state_dir = '~/there'\n[tier.a]\nroot = '/a'\narchive = '/b'",
        "[tiering]\nsocket = '/run/a.sock'",
        "state_dir = '/s'\n[tiering]\nsocket = 'beside.sock'\nworkers = 3",
    ],
)
def test_a_client_finds_the_socket_without_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Where it cannot tell, as with variables that decide, it says so."""
    monkeypatch.delenv("DATAMGR_STATE_DIR")
    file = tmp_path / "datamgr.toml"
    file.write_text(written)
    assert config_file.tier_socket(str(file)) == config.load(str(file)).tier_socket
    for name in ("DATAMGR_STATE_DIR", "datamgr_tiering__socket"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "/elsewhere")
            assert config_file.tier_socket(str(file)) is None
