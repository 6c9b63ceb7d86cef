"""`datamgr hdf5`: what this package does for the command line."""

import click

from datamgr.cli.lazy import Command, LazyGroup

# Imported when called: h5py and numpy take a moment, and come with an extra.
COMMANDS = {
    "index": Command(
        "hdf5_tools.index_cli:index", "Harvest every attribute of HDF5 files, to be searched."
    ),
    "search": Command("hdf5_tools.index_cli:search", "Find objects by their attributes."),
    "attributes": Command("hdf5_tools.index_cli:attributes", "List the attributes of an index."),
    "compact": Command("hdf5_tools.index_cli:compact", "Leave out of an index what is gone."),
    "show": Command(
        "hdf5_tools.index_cli:show", "Print every object of one file with its attributes."
    ),
    "recover": Command(
        "hdf5_tools.recover_cli:recover_", "Make a file whose writer died readable again."
    ),
    "virtual": Command("hdf5_tools.virtual_cli:virtual_", "Many files as one array."),
    "mirror": Command(
        "hdf5_tools.mirror.cli:mirror", "Replicas on another machine, while files are written."
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS, extra="hdf5")
def hdf5() -> None:
    """Find, append to, mirror, compose and repair HDF5 files. None of this needs a database."""
