"""`datamgr hdf5`: what this package does for the command line."""

import importlib

import click

from datamgr.errors import UnavailableError

# Commands are imported when called: h5py and numpy take a moment, and come with an extra.
_COMMANDS = {
    "index": "hdf5_tools.index_cli:index",
    "search": "hdf5_tools.index_cli:search",
    "attributes": "hdf5_tools.index_cli:attributes",
    "compact": "hdf5_tools.index_cli:compact",
    "show": "hdf5_tools.index_cli:show",
    "recover": "hdf5_tools.recover_cli:recover_",
    "virtual": "hdf5_tools.virtual_cli:virtual_",
}
_SUMMARIES = {
    "index": "Harvest every attribute of HDF5 files, to be searched.",
    "search": "Find objects by their attributes.",
    "attributes": "List the attributes of an index.",
    "compact": "Leave out of an index what is gone.",
    "show": "Print every object of one file with its attributes.",
    "recover": "Make a file whose writer died readable again.",
    "virtual": "Many files as one array.",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"{error.name} is not installed; it comes with pip install 'datamgr[hdf5]'"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUMMARIES.items()))


@click.group(cls=_Lazy)
def hdf5() -> None:
    """Find, append to, compose and repair HDF5 files. None of this needs a database."""
