"""Virtual datasets through the command line: what is built, verified and followed."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamgr.errors import InvalidError
from hdf5_tools import append, virtual, virtual_sources, virtual_view
from hdf5_tools.virtual_arrangement import How
from hdf5_tools.virtual_sources import Source
from tests.commands import DATAMGR, call

NAME = "entry/data"
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(
        name: str, first: int, count: int, frame: Sequence[int] = (2, 3), dtype: str = "<i4",
        ids: Sequence[int] | None = None,
    ) -> Path:  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        numbers = np.arange(first, first + count).reshape(-1, *(1 for _ in frame))
        with h5py.File(path, "w") as file:
            file[NAME] = np.broadcast_to(numbers, (count, *frame)).astype(dtype)
            if ids is not None:
                file["entry/ids"] = np.asarray(ids, np.uint64)
        return path

    return made


def read(path: Path, name: str = NAME) -> np.ndarray:
    with h5py.File(path) as file:
        return file[name][()]


def test_ways_of_building(tmp_path: Path, make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    sources = [make("a.h5", 0, 3), make("b.h5", 10, 3)]
    build = ("hdf5", "virtual", "build")
    wanted = {
        "concatenate": [0, 1, 2, 10, 11, 12],
        "interleave": [0, 10, 1, 11, 2, 12],
    }
    for how, frames in wanted.items():
        out = tmp_path / f"{how}.h5"
        done = call(capfd, *build, out, *sources, "--dataset", NAME, "--how", how, "--json")
        assert done.json["rows"] == [
            {"shape": [6, 2, 3], "dtype": "int32", "sources": 2, "missing_elements": 0}
        ]
        assert read(out)[:, 1, 2].tolist() == frames
        assert call(capfd, "hdf5", "virtual", "verify", out).exit_code == 0
    out = tmp_path / "stack.h5"
    assert call(capfd, *build, out, *sources, "--dataset", NAME, "--how", "stack").exit_code == 0
    assert read(out)[:, :, 0, 0].tolist() == [[0, 1, 2], [10, 11, 12]]
    layout = tmp_path / "modules.toml"
    layout.write_text('[[tile]]\nfile="a.h5"\nat=[0, 0]\n[[tile]]\nfile="b.h5"\nat=[2, 4]\n')
    out = tmp_path / "tile.h5"
    done = call(capfd, *build, out, "--layout", layout, "--dataset", NAME, "--fill", "-1")
    assert "48 elements have no source" in done.stdout
    assert read(out)[1].tolist() == [[1] * 3 + [-1] * 4] * 2 + [[-1] * 4 + [11] * 3] * 2


def test_frames_go_where_their_number_says(tmp_path: Path, make: Make) -> None:
    a = make("a.h5", 0, 3, ids=[7, 5, 6], dtype="<f4")
    b = make("b.h5", 10, 2, ids=[9, 10], dtype="<f4")
    built = virtual.build(
        tmp_path / "v.h5", [Source(a, NAME), Source(b, NAME)], How.CONCATENATE,
        frame_ids="entry/ids",
    )  # fmt: skip
    assert (built.shape, built.missing) == ((6, 2, 3), 6)
    values = read(tmp_path / "v.h5")[:, 0, 0]
    assert np.isnan(values[3])
    assert values[[0, 1, 2, 4, 5]].tolist() == [1, 2, 0, 10, 11]
    verified = virtual_view.verify(tmp_path / "v.h5")
    assert [f.source for f in verified.findings] == [None]
    assert "6" in verified.findings[0].what


def test_the_folder_moves_and_the_reader_is_elsewhere(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [Source(make(f"run/{k}.h5", k, 2), NAME) for k in range(3)]
    virtual.build(tmp_path / "run" / "all.h5", sources, How.CONCATENATE)
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    assert read(tmp_path / "moved" / "all.h5")[:, 0, 0].tolist() == [0, 1, 1, 2, 2, 3]
    assert not virtual_view.verify(tmp_path / "moved" / "all.h5").findings


def damage_missing(source: Path) -> None:
    source.unlink()


def damage_dataset(source: Path) -> None:
    with h5py.File(source, "r+") as file:
        file.move(NAME, "entry/elsewhere")


def damage_type(source: Path) -> None:
    with h5py.File(source, "r+") as file:
        values = file[NAME][()]
        del file[NAME]
        file[NAME] = values.astype("<f8")


def damage_extent(source: Path) -> None:
    with h5py.File(source, "r+") as file:
        values = file[NAME][1:]
        del file[NAME]
        file[NAME] = values


def damage_bytes(source: Path) -> None:
    os.truncate(source, source.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_missing, "the file is missing"),
        (damage_dataset, f"has no dataset {NAME}"),
        (damage_type, "has the type float64, not int32"),
        (damage_extent, "has the shape (2, 2, 3), and (3, 2, 3) is mapped"),
        (damage_bytes, "cannot be read"),
    ],
)
def test_verify_tells_what_hdf5_hides(
    tmp_path: Path, make: Make, capfd: pytest.CaptureFixture[str],
    damage: Callable[[Path], None], said: str,
) -> None:  # fmt: skip
    sources = [Source(make(f"{k}.h5", k, 3), NAME) for k in range(2)]
    virtual.build(tmp_path / "v.h5", sources, How.INTERLEAVE)
    damage(sources[1].path)
    done = call(capfd, "hdf5", "virtual", "verify", tmp_path / "v.h5", "--json")
    assert done.exit_code == 1
    assert [row["source"] for row in json.loads(done.stdout)["rows"]] == ["./1.h5"]
    assert said in json.loads(done.stdout)["rows"][0]["finding"]


def test_what_does_not_fit_is_refused_and_nothing_appears(
    tmp_path: Path, make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    a, out = make("a.h5", 0, 2), tmp_path / "v.h5"
    other_type, other_shape = make("t.h5", 0, 2, dtype="<f4"), make("s.h5", 0, 2, frame=(2, 4))
    cases = [
        ((a, other_type), 4, "float32"),
        ((a, other_shape), 4, "(2, 2, 4)"),
        ((a, tmp_path / "none.h5"), 3, "no source"),
        ((a, "--dataset", "entry/none"), 3, "no dataset entry/none"),
        ((Path(__file__),), 4, "cannot be read as HDF5"),
        ((a, "--how", "tile"), 2, "--layout"),
        ((), 2, "name a SOURCE"),
        (("--layout", tmp_path / "none.toml"), 3, "none.toml"),
        ((a, a, "--frame-ids", "entry/ids"), 3, "frame numbers"),
    ]
    for arguments, exit_code, said in cases:
        given = arguments if "--dataset" in arguments else (*arguments, "--dataset", NAME)
        done = call(capfd, "hdf5", "virtual", "build", out, *given)
        assert (done.exit_code, said in done.stderr) == (exit_code, True), (said, done)
        assert not out.exists()
    out.write_bytes(b"mine")
    assert call(capfd, "hdf5", "virtual", "build", out, a, "--dataset", NAME).exit_code == 6
    assert out.read_bytes() == b"mine"
    assert not list(tmp_path.glob(".virtual-*"))


def test_tiles_may_not_overlap(tmp_path: Path, make: Make) -> None:
    layout = tmp_path / "modules.toml"
    make("a.h5", 0, 2)
    layout.write_text('[[tile]]\nfile="a.h5"\nat=[0, 0]\n[[tile]]\nfile="a.h5"\nat=[1, 2]\n')
    with pytest.raises(InvalidError, match="overlap"):
        virtual.build(tmp_path / "v.h5", virtual_sources.read_layout(layout, NAME), How.TILE)


def test_follow_counts_only_frames_that_all_sources_have(tmp_path: Path) -> None:
    sources = [Source(tmp_path / f"{k}.h5", "data") for k in range(2)]
    files = [h5py.File(source.path, "w", libver="latest") for source in sources]
    writers = []
    for file in files:
        append.create(file, "data", (2,), "<i4", chunk_bytes=8)
    for file in files:
        file.swmr_mode = True
        writers.append(append.Writer(file["data"], flush_frames=1))
    out = tmp_path / "v.h5"
    virtual.build(out, sources, How.INTERLEAVE, growing=True)
    # A reader of its own: HDF5 shares what two handles of one process know.
    follower = subprocess.Popen(
        [*DATAMGR, "hdf5", "virtual", "follow", out, "--until=11", "--patience=60s", "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follower.stdout is not None
    counts: list[int] = []
    listener = threading.Thread(
        target=lambda: counts.extend(json.loads(line)["frames"] for line in follower.stdout or ())
    )
    listener.start()
    for number in range(8):  # this one runs ahead of the other
        writers[0].append(np.full(2, number, "<i4"))
    for number in range(5):
        time.sleep(0.3)
        writers[1].append(np.full(2, 100 + number, "<i4"))
    listener.join(60)
    assert follower.wait(60) == 0
    follower.stdout.close()
    assert counts == sorted(set(counts))
    assert counts[-1] == 11  # 5 of each, and the one of the first that comes before the sixth
    for writer, file in zip(writers, files, strict=True):
        writer.close()
        file.close()
    assert read(out, "data")[:11, 0].tolist() == [0, 100, 1, 101, 2, 102, 3, 103, 4, 104, 5]


def test_a_complete_view_ends_with_the_shortest_source(tmp_path: Path) -> None:
    sources = [Source(tmp_path / f"{k}.h5", "data") for k in range(2)]
    for number, (source, frames) in enumerate(zip(sources, (7, 5), strict=True)):
        with h5py.File(source.path, "w", libver="latest") as file:
            append.create(file, "data", (2,), "<i4")
            with append.Writer(file["data"]) as writer:
                writer.extend(np.full((frames, 2), number, "<i4"))
    out = tmp_path / "v.h5"
    virtual.build(out, sources, How.INTERLEAVE, growing=True)
    with h5py.File(out) as file:
        assert len(file["data"]) > 11  # HDF5's own: as far as the longest goes
        complete = virtual_view.open_complete(file, "data")
        assert len(complete) == 11
        assert complete[:, 0].tolist() == [0, 1] * 5 + [0]
