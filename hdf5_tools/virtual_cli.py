"""`datamgr hdf5 virtual`: many files as one array."""

import json
from pathlib import Path

import click
from click.core import ParameterSource

from datamgr import display
from datamgr.cli import options, output
from datamgr.errors import DatamgrError, InvalidError
from hdf5_tools import virtual, virtual_sources, virtual_view
from hdf5_tools.virtual_arrangement import How
from hdf5_tools.virtual_sources import Source

_FILE = click.Path(path_type=Path, readable=False)  # whether it can be read, opening says


class _Number(click.ParamType[complex]):
    """A number; a whole one exactly."""

    name = "number"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> complex:
        text = str(value).strip()
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            self.fail(f"{text!r} is no number", param, ctx)


@click.group(name="virtual")
def virtual_() -> None:
    """Many files as one array, without copying."""


@virtual_.command()
@click.argument("out", type=_FILE)
@click.argument("sources", type=_FILE, nargs=-1, metavar="SOURCE...")
@click.option("--dataset", metavar="NAME", default="entry/data/data", show_default=True,
              help="The dataset in each source.")  # fmt: skip
@click.option("--name", metavar="NAME", help="What it is called in OUT; default the same.")
@click.option("--how", type=click.Choice([h.value for h in How]), default="concatenate",
              show_default=True, help="How sources become one array.")  # fmt: skip
@click.option("--layout", type=_FILE, metavar="FILE",
              help="Tiles and their places (TOML), instead of SOURCE.")  # fmt: skip
@click.option("--frame-ids", metavar="NAME",
              help="The dataset in each source that numbers its frames: align by it.")  # fmt: skip
@click.option("--fill", type=_Number(), metavar="VALUE",
              help="What reads where no source has data [NaN, extreme integer].")  # fmt: skip
@click.option("--growing", is_flag=True, help="The sources are still being written.")
@options.as_json
@click.pass_context
def build(  # noqa: PLR0913
    ctx: click.Context,
    *,
    out: Path,
    sources: tuple[Path, ...],
    dataset: str,
    name: str | None,
    how: str,
    layout: Path | None,
    frame_ids: str | None,
    fill: complex | None,
    growing: bool,
    as_json: bool,
) -> None:
    """Write OUT: one virtual dataset over the SOURCEs, which are not copied.

    \b
    concatenate  one after the other          stack       a new first axis
    interleave   frames by turns              tile        side by side, by --layout

    Names are relative to OUT: move it together with its sources. A layout file has for each
    source

    \b
    [[tile]]
    file = "module0.h5"
    at = [0, 512]

    \b
    datamgr hdf5 virtual build all.h5 run1.h5 run2.h5 --dataset entry/data
    datamgr hdf5 virtual build image.h5 --layout modules.toml --frame-ids entry/frame
    """
    if layout is not None and sources:
        raise click.UsageError("give either SOURCE... or --layout")
    is_said = ctx.get_parameter_source("how") == ParameterSource.COMMANDLINE
    if layout is not None and is_said and how != How.TILE:
        raise click.UsageError(f"--layout is for --how tile, not {how}")
    if layout is not None:
        chosen, how = virtual_sources.read_layout(layout, dataset), How.TILE
    elif how == How.TILE:
        raise click.UsageError("tiles need --layout")
    elif not sources:
        raise click.UsageError("there is nothing to build from: name a SOURCE")
    else:
        chosen = [Source(path, dataset) for path in sources]
    built = virtual.build(
        out, chosen, How(how), name=name, frame_ids=frame_ids, fill=fill, growing=growing
    )
    row = {
        "shape": list(built.shape),
        "dtype": str(built.dtype),
        "sources": built.sources,
        "missing_elements": built.missing,
    }
    if as_json:
        output.emit("hdf5.virtual.build", [row], file=bytes(out))
        return
    click.echo(
        f"{display.printable(out)}: {built.dtype} {built.shape} over "
        f"{_number(built.sources, 'source')}"
    )
    if built.sources > virtual_sources.files_at_once():
        click.echo(
            "Who reads all of it has as many files open at once: raise `ulimit -n`, or HDF5 shows "
            "the fill value for the rest.",
            err=True,
        )
    if built.missing:
        click.echo(f"{built.missing} elements have no source and read as the fill value.")


@virtual_.command()
@click.argument("out", type=_FILE)
@options.as_json
def verify(*, out: Path, as_json: bool) -> None:
    """Tell whether everything in OUT comes from a source that can be read.

    HDF5 shows fill values, and no error, where a source is missing or too short. Ends with 1 if
    anything is found.
    """
    verified = virtual_view.verify(out)
    rows = [
        {"dataset": found.dataset, "source": found.source, "finding": found.what}
        for found in verified.findings
    ]
    if as_json:
        output.emit(
            "hdf5.virtual.verify", rows, file=bytes(out), datasets=verified.datasets,
            sources=verified.sources,
        )  # fmt: skip
    else:
        columns = [output.text(key, key) for key in ("dataset", "source", "finding")]
        what = f"{_number(verified.datasets, 'dataset')}, {_number(verified.sources, 'file')}"
        title = f"{display.printable(out)}: {what}"
        output.table(title, columns, rows, empty="everything is there")
    if rows:
        raise DatamgrError(f"{display.printable(out)} has {_number(len(rows), 'finding')}")


def _number(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


@virtual_.command()
@click.argument("out", type=_FILE)
@click.option("--dataset", metavar="NAME", help="Which, if OUT has several.")
@click.option("--until", type=click.IntRange(1), metavar="N", help="End at so many frames.")
@click.option("--patience", type=options.SPAN, metavar="TIME",
              help="End after so long without a new frame (30s); default never.")  # fmt: skip
@options.as_json
def follow(
    *, out: Path, dataset: str | None, until: int | None, patience: int | None, as_json: bool
) -> None:
    """Print the number of complete frames each time that it grows.

    A frame is complete when every source has it. With --json one object a line.
    """
    if patience is not None and patience <= 0:
        raise InvalidError("--patience needs more than no time")
    for seen, frames in virtual_view.follow(out, dataset, patience_s=patience):
        row = {"dataset": seen.name, "frames": frames}
        click.echo(json.dumps(row) if as_json else f"{frames} frames")
        if until is not None and frames >= until:
            return
