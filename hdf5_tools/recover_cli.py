"""`datamgr hdf5 recover`."""

from pathlib import Path

import click

from datamgr import display
from datamgr.cli import options, output
from hdf5_tools import recover


@click.command(name="recover")
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@options.as_json
def recover_(*, file: Path, as_json: bool) -> None:
    """Make FILE, whose writer died, readable and writable again.

    HDF5 refuses a file that says it is being written. This clears that mark, unless a process of
    this machine does have it open (ask other machines yourself), mends what was half written of
    the index of its chunks, and cuts datasets written by hdf5_tools.append to the frames that had
    been flushed; none of those is lost.

    \b
    datamgr hdf5 recover run42.h5
    """
    done = recover.recover(file)
    rows = [{"dataset": name, "frames": frames} for name, frames in done.frames.items()]
    if as_json:
        head = {"was_marked": done.was_marked, "mended_blocks": done.mended}
        output.emit("hdf5.recover", rows, file=bytes(file), **head)
        return
    state = "was marked as being written" if done.was_marked else "was not marked"
    if done.mended:
        state += f"; {done.mended} half-written blocks of metadata were mended"
    columns = [output.text("dataset", "dataset"), output.count("frames", "frames")]
    output.table(f"{display.printable(file)} {state}", columns, rows, empty="no growing datasets")
