"""A group of commands that are named in a table and imported when they are called."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from datamgr.errors import UnavailableError


@dataclass(frozen=True)
class Command:
    """A command by name only: `target` is `module:attribute`."""

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group whose `--help` imports none of its commands.

    `extra`: the extra of this distribution that has what the commands import.
    """

    def __init__(
        self, *args: Any, table: Mapping[str, Command], extra: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._table = table
        self._extra = extra

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command.

        Raises:
            UnavailableError: the extra with what it imports is not installed.
        """
        if cmd_name not in self._table:
            return None
        module, _, name = self._table[cmd_name].target.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if self._extra is None:
                raise
            raise UnavailableError(
                f"{error.name} is not installed; it comes with pip install 'datamgr[{self._extra}]'"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.summary) for name, row in self._table.items()])
