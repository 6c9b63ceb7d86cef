"""The options by which a command chooses where a scan is walked and rolled up."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from datamgr.cli import options

F = TypeVar("F", bound=Callable[..., Any])


def pass_settings(command: F) -> F:
    """As `options.pass_settings`, with --engine and --spark-master in place of what is configured.

    Raises:
        click.UsageError: they go with --no-wait, where the worker's settings decide.
    """

    @click.option(
        "--engine",
        type=click.Choice(["duckdb", "spark"]),
        help="Where to work: this process, or Spark; default scan.engine.",
    )
    @click.option(
        "--spark-master", metavar="URL", help="Where Spark runs; default scan.spark_master."
    )
    @click.pass_context
    @functools.wraps(command)
    def with_settings(
        ctx: click.Context,
        /,
        *args: Any,
        engine: str | None,
        spark_master: str | None,
        **kwargs: Any,
    ) -> Any:
        chosen = {"engine": engine, "spark_master": spark_master}
        given = {name: value for name, value in chosen.items() if value}
        if given and kwargs.get("no_wait"):
            raise click.UsageError("with --no-wait the worker's settings choose the engine")
        settings = options.load_settings(ctx)
        scan = settings.scan.model_copy(update=given)
        return ctx.invoke(command, settings.model_copy(update={"scan": scan}), *args, **kwargs)

    return with_settings  # type: ignore[return-value]
