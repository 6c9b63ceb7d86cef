"""What is harvested of each class of datatype."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hdf5_tools.harvest import by_h5py
from hdf5_tools.harvest.records import MAX_VALUES, Kind

POINT = np.array([(1, 2.5, b"x")], [("x", "i4"), ("y", ">f4"), ("s", "S3")])
SEQUENCES = np.empty(2, object)
SEQUENCES[0], SEQUENCES[1] = np.arange(3, dtype="i4"), np.arange(2, dtype="i4")
COLOUR = h5py.enum_dtype({"RED": 0, "GREEN": 1}, "i1")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (np.int8(-3), None, {"": ("int8", (), (-3,))}),
        (np.array([1, 1 << 63], ">u8"), None, {"": ("uint64", (2,), (1, 1 << 63))}),
        (np.float16(0.5), None, {"": ("float16", (), (0.5,))}),
        (True, None, {"": ("bool", (), (1,))}),
        ("höj", None, {"": ("string", (), ("höj".encode(),))}),
        ("", None, {"": ("string", (), (b"",))}),
        (np.bytes_(b"abc"), "S5", {"": ("string", (), (b"abc",))}),
        (["a", "bb"], None, {"": ("string", (2,), (b"a", b"bb"))}),
        (1, COLOUR, {"": ("enum", (), (b"GREEN",))}),
        (7, COLOUR, {"": ("enum", (), (7,))}),
        (np.void(b"ab\0"), None, {"": ("opaque", (), (b"ab\0",))}),
        (h5py.Empty("f4"), None, {"": ("float32", None, ())}),
        (np.arange(6.0).reshape(2, 3), None, {"": ("float64", (2, 3), (0, 1, 2, 3, 4, 5))}),
        (np.zeros(MAX_VALUES + 1), None, {"": ("float64", (MAX_VALUES + 1,), ())}),
        (SEQUENCES, h5py.vlen_dtype("i4"), {"": ("vlen<int32>", (2,), (0, 1, 2, 0, 1))}),
        (
            1 + 2j,
            None,
            {
                "": ("compound{r: float64, i: float64}", (), ()),
                ".r": ("float64", (), (1.0,)),
                ".i": ("float64", (), (2.0,)),
            },
        ),
        (
            POINT,
            None,
            {
                "": ("compound{x: int32, y: float32, s: string}", (1,), ()),
                ".x": ("int32", (1,), (1,)),
                ".y": ("float32", (1,), (2.5,)),
                ".s": ("string", (1,), (b"x",)),
            },
        ),
    ],
)
def test_an_attribute(tmp_path: Path, value: Any, dtype: Any, expected: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs.create("a", value, dtype=dtype)
    [root] = by_h5py.harvest(tmp_path / "x.h5").objects
    found = {name.decode()[1:]: (*form, values) for name, form, values in root.attributes}
    assert found == expected


def test_objects_and_what_refers_to_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("b/data", (3, 4), "u2")
        file["a"] = data  # met first under this name
        file["type"] = np.dtype("i4")
        file["soft"] = h5py.SoftLink("/nowhere")
        file["out"] = h5py.ExternalLink("other.h5", "/")
        file["b/up"] = file["/"]  # a cycle
        file.attrs["of"] = data.ref
        file.attrs.create("none", h5py.Reference(), dtype=h5py.ref_dtype)
    found = by_h5py.harvest(tmp_path / "x.h5").objects
    assert [(o.path, o.kind, o.form) for o in found] == [
        (b"/", Kind.GROUP, ("group", None)),
        (b"/a", Kind.DATASET, ("uint16", (3, 4))),
        (b"/b", Kind.GROUP, ("group", None)),
        (b"/type", Kind.DATATYPE, ("int32", None)),
    ]
    values = {name: values for name, _, values in found[0].attributes}
    assert values[b"none"] == (b"",)
    assert values[b"of"] == (b"/a",)
