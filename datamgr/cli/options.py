"""Options and arguments that many commands share, each defined once."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from datamgr import units
from datamgr.errors import InvalidError

if TYPE_CHECKING:
    from datamgr.config import Settings

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def pass_settings(command: F) -> F:
    """Hand the command its `settings`, read once from the file and the environment."""

    @functools.wraps(command)
    @click.pass_context
    def with_settings(ctx: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        return ctx.invoke(command, load_settings(ctx), *args, **kwargs)

    return with_settings  # type: ignore[return-value]


def pass_config_path(command: F) -> F:
    """Hand the command which file was named by `--config`, if any, in place of its settings.

    For what asks a daemon: reading the settings would take longer.
    """

    @functools.wraps(command)
    @click.pass_context
    def with_path(ctx: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        return ctx.invoke(command, ctx.ensure_object(dict).get("config_path"), *args, **kwargs)

    return with_path  # type: ignore[return-value]


def load_settings(ctx: click.Context) -> "Settings":
    """The settings in force for this command line."""
    from datamgr import config

    return config.load(ctx.ensure_object(dict).get("config_path"))


def global_options(ctx: click.Context) -> list[str]:
    """What stood before the command, for another one that this one starts."""
    given = ctx.ensure_object(dict)
    config = ["--config", given["config_path"]] if given.get("config_path") else []
    return config + (["--verbose"] if given.get("verbose") else [])


class _Quantity(click.ParamType[int]):
    """A value with a unit, parsed by one function of `units`."""

    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self._parse(value)
        except InvalidError as error:
            option = param.opts[0] if param else "value"
            raise InvalidError(f"{option}: {error}") from error


# Whether it exists and may be read is for the function to say that is asked about it.
PATH = click.Path(path_type=bytes, readable=False)
BYTES = _Quantity("size", units.parse_bytes)
COUNT = _Quantity("count", units.parse_count)
SPAN = _Quantity("duration", lambda text: int(units.parse_duration_s(text)))
