"""Virtual datasets over what HDF5 would read as fill values or rubbish without a word."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamgr.errors import (
    DatamgrError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from hdf5_tools import append, index_cli, virtual, virtual_view
from hdf5_tools.virtual_arrangement import How
from hdf5_tools.virtual_sources import Source
from tests import mounts
from tests.commands import DATAMGR, call

BUILD = ("hdf5", "virtual", "build")


def write(path: Path, data: Any, name: str = "data", **how: Any) -> Source:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=data, **how)
    return Source(path, name)


def findings(out: Path) -> list[str]:
    return [found.what for found in virtual_view.verify(out).findings]


@pytest.mark.parametrize("name", ["a%%b.h5", "per%%cent/s.h5", "per%cent.h5", "%b.h5", "100%.h5"])
@pytest.mark.parametrize("dataset", ["data", "da%ta", "%b", "a%%"])
def test_percent_signs_are_no_patterns(tmp_path: Path, name: str, dataset: str) -> None:
    sources = [write(tmp_path / f"{k}" / name, np.full((2, 3), k), dataset) for k in range(2)]
    out = tmp_path / "v.h5"
    virtual.build(out, sources, How.CONCATENATE, name="all")
    with h5py.File(out) as file:
        assert file["all"][:, 0].tolist() == [0, 0, 1, 1]
    assert findings(out) == []
    sources[1].path.unlink()
    assert ["missing" in what for what in findings(out)] == [True]


def test_patterns_of_other_programs_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a-0.h5", np.zeros((1, 2), "i4"))
    unlimited = h5py.h5s.UNLIMITED
    target = h5py.h5s.create_simple((1, 2), (unlimited, 2))
    target.select_hyperslab((0, 0), (unlimited, 1), (1, 2), (1, 2))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(target, b"./a-%b.h5", b"data", h5py.h5s.create_simple((1, 2)))
    with h5py.File(tmp_path / "v.h5", "w", libver="latest") as file:
        h5py.h5d.create(file.id, b"data", h5py.h5t.STD_I32LE, target, properties)
    (found,) = findings(tmp_path / "v.h5")
    assert "by a pattern" in found


ENUM = h5py.enum_dtype({"on": 1, "off": 0}, "i1")
PAIRS = [
    (h5py.string_dtype("ascii"), h5py.string_dtype("utf-8")),
    (h5py.string_dtype(), h5py.vlen_dtype(np.int32)),
    (h5py.vlen_dtype(np.int32), h5py.vlen_dtype(np.float32)),
    (ENUM, h5py.enum_dtype({"on": 0, "off": 1}, "i1")),
    (ENUM, np.dtype("i1")),
    (h5py.string_dtype("ascii", 4), h5py.string_dtype("utf-8", 4)),
    (np.dtype("<i4"), np.dtype(">i4")),
]


@pytest.mark.parametrize("first, second", PAIRS)
def test_types_that_only_look_alike_are_refused(
    tmp_path: Path, first: np.dtype[Any], second: np.dtype[Any]
) -> None:
    out = tmp_path / "v.h5"
    sources = []
    for number, dtype in enumerate((first, second)):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file.create_dataset("data", (2,), dtype)
        sources.append(Source(tmp_path / f"{number}.h5", "data"))
    with pytest.raises(InvalidError, match="has the type"):
        virtual.build(out, sources, How.CONCATENATE)
    assert not out.exists()
    virtual.build(out, sources[:1], How.CONCATENATE)
    sources[0].path.unlink()
    sources[1].path.rename(sources[0].path)
    assert any("has the type" in what for what in findings(out))


def test_texts_and_enumerations_keep_their_types(tmp_path: Path) -> None:
    texts = [write(tmp_path / f"t{k}.h5", [f"é{k}", ""], "t") for k in range(2)]
    virtual.build(tmp_path / "texts.h5", texts, How.CONCATENATE)
    switches = [
        write(tmp_path / f"e{k}.h5", np.array([k, 1], "i1"), "e", dtype=ENUM) for k in range(2)
    ]
    virtual.build(tmp_path / "switches.h5", switches, How.CONCATENATE)
    with h5py.File(tmp_path / "texts.h5") as file:
        assert file["t"].asstr()[()].tolist() == ["é0", "", "é1", ""]
    with h5py.File(tmp_path / "switches.h5") as file:
        assert h5py.check_enum_dtype(file["e"].dtype) == {"on": 1, "off": 0}
        assert file["e"][()].tolist() == [0, 1, 1, 1]
    assert findings(tmp_path / "texts.h5") == findings(tmp_path / "switches.h5") == []


def test_only_frames_that_count_are_mapped(tmp_path: Path) -> None:
    """The extent of a dataset that is appended to is ahead of its frames."""
    path, out = tmp_path / "live.h5", tmp_path / "v.h5"
    with h5py.File(path, "w", libver="latest") as file:
        append.create(file, "data", (2,), "<i4", chunk_bytes=8)
        file.swmr_mode = True
        writer = append.Writer(file["data"], flush_frames=1)
        for number in range(5):
            writer.append(np.full(2, number, "<i4"))
        assert len(file["data"]) > 5
        subprocess.run(
            [*DATAMGR, *BUILD, out, path, "--dataset", "data"], check=True, capture_output=True
        )
        with h5py.File(out) as built:
            assert built["data"].shape == (5, 2)
        writer.close()
    assert findings(out) == []
    virtual.build(tmp_path / "more.h5", [Source(path, "data")], How.CONCATENATE)
    with h5py.File(path, "r+") as file:
        file[file["data"].attrs[append.COUNTER_ATTRIBUTE]][()] = 3
    assert findings(tmp_path / "more.h5") == ["counts 3 frames, and 5 are mapped"]


def test_sources_of_sources_are_looked_at(tmp_path: Path) -> None:
    inner = write(tmp_path / "raw/a.h5", np.ones((2, 2)))
    (tmp_path / "one").mkdir()
    virtual.build(tmp_path / "one/v.h5", [inner], How.CONCATENATE)
    out = tmp_path / "two.h5"
    virtual.build(out, [Source(tmp_path / "one/v.h5", "data")], How.CONCATENATE)
    assert findings(out) == []
    inner.path.unlink()
    assert ["missing" in what for what in findings(out)] == [True]


def test_who_is_a_source_of_itself_is_told(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        layout = h5py.VirtualLayout((2,), "i4")
        layout[:] = h5py.VirtualSource(f"./{other}.h5", "data", (2,), "i4")
        with h5py.File(tmp_path / f"{one}.h5", "w") as file:
            file.create_virtual_dataset("data", layout)
    assert "is a source of itself" in findings(tmp_path / "a.h5")


@pytest.mark.parametrize("how", [{}, {"chunks": (1, 2)}])
def test_what_was_never_written_is_told(tmp_path: Path, how: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("data", (4, 2), "i4", **how)
        if how:
            dataset[1] = 7
    virtual.build(tmp_path / "v.h5", [Source(tmp_path / "a.h5", "data")], How.CONCATENATE)
    (found,) = findings(tmp_path / "v.h5")
    assert "never written" in found


def test_a_whole_source_of_another_program_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", np.arange(6).reshape(2, 3))
    with h5py.File(tmp_path / "v.h5", "w") as file, h5py.File(tmp_path / "a.h5") as source:
        layout = h5py.VirtualLayout((2, 3), source["data"].dtype)
        layout[...] = h5py.VirtualSource(source["data"])
        file.create_virtual_dataset("data", layout)
    assert findings(tmp_path / "v.h5") == []


@pytest.mark.parametrize(
    "dtype, fill, expected",
    [
        ("u1", "255", 255), ("i8", str(2**62 + 1), 2**62 + 1), ("f4", "-1.5", -1.5),
        ("f4", "inf", np.inf), ("c8", "2", 2), ("f8", "nan", np.nan),
    ],
)  # fmt: skip
def test_fill_values_that_the_type_has(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], dtype: str, fill: str, expected: Any
) -> None:
    write(tmp_path / "a.h5", np.zeros((1,), dtype), "data")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["ids"] = np.array([0], "u4")
    write(tmp_path / "b.h5", np.zeros((1,), dtype), "data")
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file["ids"] = np.array([2], "u4")
    out = tmp_path / "v.h5"
    sources = [str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]
    given = (*BUILD, out, *sources, "--dataset", "data", "--frame-ids", "ids", f"--fill={fill}")
    assert call(capfd, *given).exit_code == 0
    with h5py.File(out) as file:
        np.testing.assert_equal(file["data"][1], np.dtype(dtype).type(expected))


@pytest.mark.parametrize(
    "data, fill",
    [
        (np.zeros(1, "u1"), "-1"), (np.zeros(1, "u1"), "300"), (np.zeros(1, "u1"), "1.5"),
        (np.zeros(1, "u1"), "nan"), (np.zeros(1, "f2"), "1e6"), (["text"], "1"),
        (np.zeros(1, [("a", "i4")]), "1"),
    ],
)  # fmt: skip
def test_fill_values_that_the_type_has_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], data: Any, fill: str
) -> None:
    write(tmp_path / "a.h5", data)
    given = (*BUILD, tmp_path / "v.h5", tmp_path / "a.h5", "--dataset", "data", f"--fill={fill}")
    assert call(capfd, *given).exit_code == InvalidError.exit_code
    assert not (tmp_path / "v.h5").exists()


@pytest.mark.parametrize("dtype", ["c8", "c16", "?", [("a", "i4")], "S3"])
def test_types_without_an_impossible_value_are_taken(tmp_path: Path, dtype: Any) -> None:
    source = write(tmp_path / "a.h5", np.zeros(2, dtype))
    virtual.build(tmp_path / "v.h5", [source], How.CONCATENATE)
    assert findings(tmp_path / "v.h5") == []


@pytest.mark.parametrize(
    "text, said",
    [
        ('[[tile]]\nfile="a.h5"\nat=[0]\ndatset="x"', "'datset'"),
        ('[[tile]]\nfile="a.h5"\nat=[0]\n[other]\nx=1', "'other'"),
        ("tile = 3", "no [[tile]]"),
        ("tile = [3]", "tile 1"),
        ('[[tile]]\nfile="a.h5"\nat=[100000000000000000000]', "tile 1"),
        ('[[tile]]\nfile="a.h5"\nat=[9223372036854775800]', "more than HDF5 counts"),
    ],
)
def test_layouts_that_are_not_understood(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    write(tmp_path / "a.h5", np.zeros((2, 2), "i4"))
    layout = tmp_path / "l.toml"
    layout.write_text(text)
    done = call(capfd, *BUILD, tmp_path / "v.h5", "--layout", layout, "--dataset", "data")
    assert (done.exit_code, said in done.stderr) == (InvalidError.exit_code, True), done
    done = call(capfd, *BUILD, tmp_path / "v.h5", "--layout", layout, "--how", "stack")
    assert done.exit_code == 2


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InvalidError, match="no regular file"):
            virtual.build(tmp_path / "v.h5", [Source(tmp_path / name, "data")], How.CONCATENATE)
        with pytest.raises(InvalidError, match="no regular file"):
            virtual_view.verify(tmp_path / name)


def test_places_that_are_not_possible(tmp_path: Path) -> None:
    source = write(tmp_path / "a.h5", np.zeros((2, 2), "i4"))
    cases: list[tuple[Path, dict[str, Any], type[DatamgrError]]] = [
        (tmp_path / "none/v.h5", {}, NotFoundError),
        (tmp_path / "a.h5/v.h5", {}, NotFoundError),
        (Path("/proc/v.h5"), {}, DatamgrError),
        *((tmp_path / "v.h5", {"name": name}, InvalidError) for name in
          ("", "/", "x/", "a//b", "../a", "\udcff", "a\0")),
    ]  # fmt: skip
    for out, how, error in cases:
        with pytest.raises(error):
            virtual.build(out, [source], How.CONCATENATE, **how)
    with h5py.File(tmp_path / "null.h5", "w") as file:
        file["data"] = h5py.Empty("f4")
    with pytest.raises(InvalidError, match="no elements"):
        virtual.build(tmp_path / "v.h5", [Source(tmp_path / "null.h5", "data")], How.STACK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "null.h5"]


@mounts.needs_root
def test_what_may_not_be_reached_is_said(tmp_path: Path) -> None:
    source = write(tmp_path / "closed/a.h5", np.zeros((2, 2), "i4"))
    virtual.build(tmp_path / "v.h5", [source], How.CONCATENATE)
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "closed").chmod(0o700)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        assert ["cannot be reached" in what for what in findings(tmp_path / "v.h5")] == [True]
        with pytest.raises(ForbiddenError, match="cannot be reached"):
            virtual.build(tmp_path / "w.h5", [source], How.CONCATENATE)
        os.seteuid(0)
        (tmp_path / "closed").chmod(0o755)
        source.path.chmod(0o600)
        os.seteuid(65534)
        assert ["cannot be read" in what for what in findings(tmp_path / "v.h5")] == [True]
        with pytest.raises(ForbiddenError, match="cannot be read: Permission denied"):
            virtual.build(tmp_path / "w.h5", [source], How.CONCATENATE)
        with pytest.raises(ForbiddenError, match="cannot be read: Permission denied"):
            index_cli.show.main([str(source.path)], standalone_mode=False)
    finally:
        os.seteuid(0)
        os.setegid(0)


@mounts.needs_root
@pytest.mark.root
def test_a_full_disk_leaves_nothing_of_a_virtual_file(tmp_path: Path) -> None:
    with mounts.tmpfs(tmp_path / "small", 32 << 10) as place:
        source = write(place / "a.h5", np.zeros((2, 2), "i4"))
        with (place / "fill").open("wb", buffering=0) as fill, suppress(OSError):
            while True:
                fill.write(bytes(4096))
        with pytest.raises(UnavailableError, match="cannot be written: No space left on device"):
            virtual.build(place / "v.h5", [source], How.CONCATENATE)
        assert sorted(os.listdir(place)) == ["a.h5", "fill"]


def test_frame_numbers_as_far_apart_as_can_be(tmp_path: Path) -> None:
    for name, ids in (("a.h5", [-(2**63), 2**63 - 1]), ("b.h5", [0, 2**62])):
        write(tmp_path / name, np.zeros((2, 2), "i4"))
        write(tmp_path / name, np.array(ids, "i8"), "ids")
        with pytest.raises(InvalidError, match="more than HDF5 counts"):
            virtual.build(
                tmp_path / "v.h5", [Source(tmp_path / name, "data")], How.CONCATENATE,
                frame_ids="ids",
            )  # fmt: skip
    write(tmp_path / "c.h5", np.zeros((2, 2), "i4"))
    write(tmp_path / "c.h5", np.array([7, 7], "u8"), "ids")
    with pytest.raises(InvalidError, match="two frames of the number 7"):
        virtual.build(
            tmp_path / "v.h5", [Source(tmp_path / "c.h5", "data")], How.CONCATENATE,
            frame_ids="ids",
        )  # fmt: skip


def test_more_sources_than_a_process_may_open(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / f"{number}.h5", np.zeros((1, 2), "i4"))
    sources = [tmp_path / f"{number}.h5" for number in range(40)]
    limited = ["prlimit", "--nofile=64", *DATAMGR, "hdf5", "virtual"]
    out = tmp_path / "v.h5"
    built = subprocess.run(
        [*limited, "build", out, *sources, "--dataset", "data"], capture_output=True, check=True
    )
    assert b"ulimit -n" in built.stderr
    verified = subprocess.run([*limited, "verify", out], capture_output=True, check=False)
    assert (verified.returncode, b"ulimit -n" in verified.stdout) == (1, True)
    assert findings(out) == []


def test_a_link_to_the_virtual_file_leads_to_its_sources(tmp_path: Path) -> None:
    source = write(tmp_path / "here/a.h5", np.zeros((2, 2), "i4"))
    virtual.build(tmp_path / "here/v.h5", [source], How.CONCATENATE)
    (tmp_path / "link.h5").symlink_to("here/v.h5")
    assert findings(tmp_path / "link.h5") == []


def test_what_does_not_grow_is_not_followed(tmp_path: Path) -> None:
    source = write(tmp_path / "a.h5", np.zeros((2, 2), "i4"))
    virtual.build(tmp_path / "v.h5", [source], How.CONCATENATE)
    with pytest.raises(InvalidError, match="does not grow"):
        next(virtual_view.follow(tmp_path / "v.h5"))
    with pytest.raises(InvalidError, match="no virtual dataset"):
        next(virtual_view.follow(source.path))


def test_frames_of_no_elements(tmp_path: Path) -> None:
    source = write(tmp_path / "a.h5", np.zeros((2, 0), "i4"))
    virtual.build(tmp_path / "v.h5", [source], How.CONCATENATE)
    assert findings(tmp_path / "v.h5") == []
