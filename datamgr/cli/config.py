"""`datamgr config`: what is configured."""

import click
import sqlalchemy as sa

from datamgr import config as configuration
from datamgr import config_file
from datamgr.cli import options, output


@click.group()
def config() -> None:
    """What is configured, and from where."""


@config.command()
@options.as_json
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Print every setting in force, defaults included; a password in a URL is hidden.

    \b
    Settings come from, the later winning:
      the defaults
      datamgr.toml (--config, $DATAMGR_CONFIG, ~/.config/datamgr/, /etc/datamgr/)
      the environment: DATAMGR_STATE_DIR, DATAMGR_DATABASE__URL, DATAMGR_SCAN__WORKERS, ...
    """
    path = ctx.ensure_object(dict).get("config_path")
    settings = configuration.load(path)
    rows = [{"setting": key, "value": value} for key, value in _flatten(settings).items()]
    source = config_file.find_config(path)
    if as_json:
        output.emit("config.show", rows, file=str(source) if source else None)
        return
    output.table(
        f"Settings from {source or 'defaults (no file)'}",
        [output.text("setting", "setting"), output.text("value", "value")],
        rows,
    )


def _flatten(settings: configuration.Settings) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in settings.model_dump(mode="json", by_alias=True).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    flat["database.url"] = _without_password(str(flat["database.url"]))
    return flat


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url  # "embedded"
