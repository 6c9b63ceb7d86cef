"""The settings of the nights: a file, the secret from the environment, and what is documented."""

import re
from pathlib import Path

import pytest

from datamgr import config
from datamgr.cli import main
from datamgr.errors import InvalidError

ROOT = Path(__file__).parents[3]
RULE = '[[alerts.rule]]\nname = "full"\nbytes_percent = 90\nemail = ["ada@example.org"]\n'


def loaded(tmp_path: Path, text: str) -> config.Settings:
    file = tmp_path / "datamgr.toml"
    file.write_text(text)
    return config.load(str(file))


def test_rules_of_the_file_and_the_secret_of_the_environment_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAMGR_ALERTS__WEBHOOK_SECRET", "geheim")
    alerts = loaded(tmp_path, RULE).alerts
    assert [rule.name for rule in alerts.rule] == ["full"]
    assert alerts.webhook_secret is not None
    assert alerts.webhook_secret.get_secret_value() == "geheim"
    assert "geheim" not in repr(alerts)


def test_the_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATAMGR_ALERTS__WEBHOOK_SECRET", "geheim")
    for options in ((), ("--json",)):
        assert main.run(["config", "show", *options]) == 0
        shown = capfd.readouterr().out
        assert "alerts.webhook_secret" in shown
        assert "geheim" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RULE + RULE, "two rules have the same name"),
        (RULE.replace("bytes_percent = 90\n", ""), "full needs bytes_percent"),
        (RULE.replace("email", "#"), "full needs email or webhook"),
        (RULE + 'webhook = "file:///etc/passwd"\n', "webhook"),
        (RULE + 'webhook = "http://a b"\n', "webhook"),
        (RULE.replace("full", "a b"), "alerts.rule.0.name"),
        ('[alerts]\nsmtp = "mail.example.org"\n', "alerts.smtp"),
        ("[nightly]\nhistory_all_days = 99\nhistory_weekly_days = 9\n", "less than"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(message)):
        loaded(tmp_path, text)


@pytest.mark.parametrize(
    "file",
    ["docs/howto/nightly.md", "docs/howto/quotas-and-alerts.md", "deploy/datamgr.toml"],
)
def test_the_examples_are_valid(tmp_path: Path, file: str) -> None:
    text = (ROOT / file).read_text()
    if file.endswith(".md"):
        text = "\n".join(re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    settings = loaded(tmp_path, text)
    assert settings.nightly.filesystem or settings.alerts.rule
