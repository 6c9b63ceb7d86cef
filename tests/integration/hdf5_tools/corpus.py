"""Files of every kind that HDF5 can write, for the comparison of harvests."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5p, h5s, h5t

LIBVERS = ["earliest", "v108", "v110", "v112", "latest"]
Fill = Callable[[h5py.File], None]
_RAW = np.random.default_rng(1)


def low(place: Any, name: str, kind: Any, shape: tuple[int, ...] = (3,)) -> None:
    """An attribute of any type, with bytes that mean something or nothing."""
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    made = h5a.create(place.id, name.encode(), kind, space)
    size = kind.get_size()
    count = int(np.prod(shape))
    whole = _RAW.integers(0, 256, count * size, np.uint8).view(np.dtype(("V", size)))
    made.write(whole.reshape(shape), mtype=kind)


def integers(file: h5py.File) -> None:
    for name in ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "B8", "B16", "B32", "B64"):
        for order in ("LE", "BE"):
            kind = getattr(h5t, f"STD_{name}{order}")
            low(file, f"{name}{order}", kind)
            low(file, f"scalar {name}{order}", kind, ())
            if name[0] == "B":
                continue
            part = kind.copy()
            part.set_precision(kind.get_size() * 8 - 3)
            part.set_offset(2)
            low(file, f"part of {name}{order}", part, (2, 3))
    odd = h5t.STD_I32BE.copy()
    odd.set_size(3)
    odd.set_precision(24)
    low(file, "three bytes", odd)


def floats(file: h5py.File) -> None:
    special = np.array([0.0, -0.0, 1.5, -1e-5, np.inf, -np.inf, np.nan, 6e-8, 1e-40, 5e-324])
    for size in (2, 4, 8, np.dtype("g").itemsize):
        for order in "<>":
            letters = f"{order}f{size}" if size <= 8 else "g"
            file.attrs[f"{letters}"] = special.astype(letters)
            file.attrs[f"scalar {letters}"] = np.array(1 / 3, letters)
    file.attrs["large"] = np.array([np.finfo("g").max, np.finfo("g").tiny], "g")
    for name in ("IEEE_F128LE", "IEEE_F128BE", "FLOAT_BFLOAT16LE"):
        if hasattr(h5t, name):
            low(file, name, getattr(h5t, name), (2,))


def texts(file: h5py.File) -> None:
    for padding in (h5t.STR_NULLTERM, h5t.STR_NULLPAD, h5t.STR_SPACEPAD):
        for characters in (h5t.CSET_ASCII, h5t.CSET_UTF8):
            for size in (1, 5, 8):
                kind = h5t.C_S1.copy()
                kind.set_size(size)
                kind.set_strpad(padding)
                kind.set_cset(characters)
                made = h5a.create(
                    file.id,
                    b"%d %d %d" % (padding, characters, size),
                    kind,
                    h5s.create_simple((6,)),
                )
                values = [
                    b"ab\0cd\0\0\0",
                    b"ab      ",
                    b"abcdefgh",
                    b"",
                    b"\xff \0 \0",
                    b"h\xc3\xb6j",
                ]
                made.write(np.array([v[:size] for v in values], f"V{size}"), mtype=kind)
    file.attrs["variable"] = ["a", "", "höj", "x" * 5000]
    file.attrs["scalar"] = "text"
    file.attrs["empty"] = ""
    file.attrs.create("ascii", b"bytes", dtype=h5py.string_dtype("ascii"))
    h5a.create(file.id, b"unwritten", h5py.h5t.py_create(h5py.string_dtype(), logical=True),
               h5s.create_simple((2,)))  # fmt: skip
    file.attrs["höj"] = "name in UTF-8"
    file.attrs["fixed"] = np.array([b"a", b"bcd"])


def enumerations(file: h5py.File) -> None:
    for base in ("<i1", ">i2", "<u4", ">i8"):
        kind = h5py.enum_dtype({"RED": 1, "GREEN": 2, "a longer name": 3}, base)
        file.attrs.create(f"enum {base}", [1, 2, 3, 9], dtype=kind)
    file.attrs["bool"] = [True, False]
    file.attrs["scalar bool"] = np.True_
    wide = h5t.enum_create(h5t.STD_I16BE)
    wide.enum_insert(b"FALSE", 0)
    wide.enum_insert(b"TRUE", 1)
    low(file, "wide bool", wide)


def compounds(file: h5py.File) -> None:
    inner = np.dtype([("x", "<i4"), ("y", ">f8")])
    kind = np.dtype([
        ("n", "u1"), ("s", "S5"), ("in", inner), ("v", h5py.string_dtype()), ("a", "<f4", (2, 3)),
        ("l", h5py.vlen_dtype("i2")), ("e", h5py.enum_dtype({"A": 0, "B": 1})), ("b", "?"),
        ("c", "<c8"), ("many", inner, (2,)),
    ])  # fmt: skip
    values = np.zeros(3, kind)
    for k in range(3):
        values[k] = (
            k, b"ab", (k, k / 2), f"text {k}", np.full((2, 3), k), np.arange(k, dtype="i2"),
            k % 2, k > 0, k + 1j, [(k, 1), (k + 1, 2)],
        )  # fmt: skip
    file.attrs["rows"] = values
    file.attrs["row"] = values[1]
    file.attrs["complex"] = np.array([1 + 2j, 3 - 4j])
    file.attrs.create("none", h5py.Empty(kind))
    file.create_dataset("table", data=values)
    timed = h5t.create(h5t.COMPOUND, 8)
    timed.insert(b"x", 0, h5t.STD_I32LE)
    timed.insert(b"t", 4, h5t.UNIX_D32LE)
    low(file, "timed", timed)
    aside = h5t.create(h5t.COMPOUND, 300)
    aside.insert(b"late", 290, h5t.STD_I64LE)
    aside.insert(b"early", 3, h5t.STD_U16BE)
    low(file, "with gaps", aside)


def sequences(file: h5py.File) -> None:
    for name, kind, parts in (
        ("ints", "i4", [[1, 2, 3], [], [4]]),
        ("floats", ">f8", [[0.5], [1, 2], []]),
        ("bools", "?", [[True], [False, True], []]),
    ):
        made = np.empty(3, object)
        for k, part in enumerate(parts):
            made[k] = np.array(part, kind)
        file.attrs.create(name, made, dtype=h5py.vlen_dtype(kind))
    texts = np.empty(2, object)
    texts[0], texts[1] = np.array(["a", "bc"], object), np.array([], object)
    file.attrs.create("texts", texts, dtype=h5py.vlen_dtype(h5py.string_dtype()))
    points = np.empty(2, object)
    of = np.dtype([("x", "i2"), ("y", "f4")])
    points[0], points[1] = np.array([(1, 2), (3, 4)], of), np.array([(5, 6)], of)
    file.attrs.create("points", points, dtype=h5py.vlen_dtype(of))
    long = np.empty(1, object)
    long[0] = np.arange(3000)
    file.attrs.create("too long", long, dtype=h5py.vlen_dtype("i8"))
    low(file, "arrays", h5t.array_create(h5t.STD_I16BE, (2, 3)), (2,))
    low(file, "array", h5t.array_create(h5t.array_create(h5t.STD_U8LE, (2,)), (3,)), ())


def references(file: h5py.File) -> None:
    data = file.create_dataset("b/data", (3, 4), "u2")
    file["also"] = data  # listed under this name
    group = file.create_group("z/group")
    file.attrs["to data"] = data.ref
    file.attrs.create("several", [group.ref, data.ref, h5py.Reference()], dtype=h5py.ref_dtype)
    file.attrs["region"] = data.regionref[1:, :2]
    kind = np.dtype([("to", h5py.ref_dtype), ("n", "i4")])
    data.attrs["REFERENCE_LIST"] = np.array([(group.ref, 1), (data.ref, 2)], kind)
    lists = np.empty(2, object)
    lists[0] = np.array([group.ref], object)
    lists[1] = np.array([data.ref, file.ref], object)
    data.attrs.create("DIMENSION_LIST", lists, dtype=h5py.vlen_dtype(h5py.ref_dtype))
    gone = file.create_group("gone")
    file.attrs["to nothing"] = gone.ref
    del file["gone"]


def others(file: h5py.File) -> None:
    low(file, "opaque", h5t.create(h5t.OPAQUE, 7))
    low(file, "time", h5t.UNIX_D32LE)
    file.attrs.create("moment", np.array(["2026-01-02"], "M8[s]").view("V8"))
    file.attrs.create(
        "numpy moment", np.array(["2026-01-02"], "M8[s]").astype(h5py.opaque_dtype("M8[s]"))
    )
    if hasattr(h5t, "COMPLEX_IEEE_F64LE"):
        low(file, "own complex", h5t.COMPLEX_IEEE_F64LE)


def spaces(file: h5py.File) -> None:
    file.attrs["null"] = h5py.Empty("f4")
    file.attrs["null text"] = h5py.Empty("S3")
    file.attrs["zero"] = np.zeros((0, 3))
    file.attrs["no texts"] = np.array([], "S3")
    file.attrs["rank"] = np.arange(24.0).reshape(1, 2, 3, 4)
    for count in (1023, 1024, 1025):
        file.attrs[f"{count}"] = np.arange(count, dtype="u1")
    file.create_dataset("null", data=h5py.Empty("i4"))
    file.create_dataset("scalar", data=3)
    file.create_dataset("growing", (0, 3), "f4", maxshape=(None, 3), chunks=(16, 3))
    file.create_dataset("chunked", (10, 10), "f4", chunks=(4, 4), compression="gzip", shuffle=True)
    file.create_dataset("filled", (3,), "f4", fillvalue=np.nan)
    compact = h5p.create(h5p.DATASET_CREATE)
    compact.set_layout(h5d.COMPACT)
    h5d.create(file.id, b"compact", h5t.STD_I32LE, h5s.create_simple((3,)), compact)
    file.create_dataset("elsewhere", (3,), "f4", external=[("raw.bin", 0, 12)])
    view = h5py.VirtualLayout((4,), "f4")
    view[:] = h5py.VirtualSource("absent.h5", "data", (4,))
    file.create_virtual_dataset("virtual", view)


def many_objects(file: h5py.File) -> None:
    for number in range(2000):
        file.create_group(f"wide/group {number * 7919 % 2000}")
    inner = file
    for number in range(60):
        inner = inner.create_group(f"{number}")
        inner.attrs["level"] = number
    file.create_group("x" * 3000)


def links(file: h5py.File) -> None:
    data = file.create_dataset("b/data", (3,), "u2")
    file["a"] = data
    file["type"] = np.dtype("i4")
    file["soft"] = h5py.SoftLink("/b")
    file["b/dangling"] = h5py.SoftLink("/nowhere")
    file["outside"] = h5py.ExternalLink("other.h5", "/")
    file["b/up"] = file["/"]
    file["b/again"] = file["b"]
    file["c"] = file["b"]
    ordered = file.create_group("ordered", track_order=True)
    few = file.create_group("few", track_order=True)
    for name in ("z", "m", "a"):
        few.create_group(name)
    for number in range(30):
        ordered.create_group(f"{30 - number}")
        ordered.attrs[f"{30 - number}"] = number
    for number in range(0, 30, 2):
        del ordered[f"{30 - number}"]


def many_attributes(file: h5py.File) -> None:
    group = file.create_group("g")
    count = 300 if file.libver[0] == "earliest" else 3000  # in one header, it is quadratic
    for number in range(count):
        group.attrs[f"attribute {number * 7919 % count}"] = number
    for number in range(0, count, 3):
        del group.attrs[f"attribute {number}"]
    for number in range(20):
        file.attrs[f"a{number}"] = "text" * number
    for number in range(0, 20, 2):
        del file.attrs[f"a{number}"]
        file.attrs[f"a{number + 1}"] = number
    ordered = file.create_dataset("ordered", (3,), "f4", track_order=True)
    for number in range(5):
        ordered.attrs[f"{5 - number}"] = number


def large_attributes(file: h5py.File) -> None:
    for size in (200, 5_000, 60_000):
        file.attrs[f"{size}"] = np.bytes_(b"x" * size)
    if file.libver[0] != "earliest":
        for size in (65_000, 65_536, 100_000, 900_000):
            file.attrs[f"{size}"] = np.bytes_(b"x" * size)
            file.attrs[f"two {size}"] = np.array([b"x" * size] * 2) if size < 300_000 else 0
        file.attrs["array"] = np.arange(1_000_000.0)


def committed(file: h5py.File) -> None:
    file["types/point"] = np.dtype([("x", "f4"), ("y", "f4")])
    file["types/text"] = h5py.string_dtype()
    file["types/number"] = np.dtype(">i2")
    file["types"].attrs["plain"] = 1
    file["types/number"].attrs["on a type"] = 2
    for number in range(12):  # more than fit into the header
        group = file.create_group(f"g{number % 2}/{number}")
        group.attrs.create("point", (number, 2), dtype=file["types/point"])
        group.attrs.create("text", f"text {number}", dtype=file["types/text"])
        file.attrs.create(f"number {number}", number, dtype=file["types/number"])
    file.create_dataset("data", (2,), file["types/point"])


KINDS = [
    integers, floats, texts, enumerations, compounds, sequences, references, others, spaces,
    many_objects, links, many_attributes, large_attributes, committed,
]  # fmt: skip


def shared_messages(path: Path) -> None:
    """Datatypes, dataspaces and attributes stored once for several objects."""
    library = ctypes.CDLL(h5p.__file__)
    create = h5p.create(h5p.FILE_CREATE)
    place = ctypes.c_int64(create.id)
    assert library.H5Pset_shared_mesg_nindexes(place, 3) >= 0
    for number, kind in enumerate((3, 1, 12)):  # datatypes, dataspaces, attributes
        assert library.H5Pset_shared_mesg_index(place, number, 1 << kind, 1) >= 0
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_LATEST)
    with h5py.File(h5f.create(bytes(path), h5f.ACC_TRUNC, create, access)) as file:
        for number in range(30):
            data = file.create_dataset(f"d{number}", (3, 4), "f8")
            for k in range(12):
                data.attrs[f"the same {k}"] = np.arange(20.0)
                data.attrs[f"other {k}"] = f"{number}"


def small_addresses(path: Path) -> None:
    """Addresses and lengths of four bytes; HDF5 writes references wrongly into such files."""
    create = h5p.create(h5p.FILE_CREATE)
    create.set_sizes(4, 4)
    with h5py.File(h5f.create(bytes(path), h5f.ACC_TRUNC, create)) as file:
        for kind in (texts, compounds, links):
            kind(file)


def netcdf4(path: Path) -> None:
    import netCDF4

    with netCDF4.Dataset(path, "w") as file:
        file.title = "a title"
        file.setncattr("numbers", np.arange(3, dtype="i2"))
        file.createDimension("time", None)
        file.createDimension("x", 4)
        kind = file.createCompoundType(np.dtype([("a", "i4"), ("b", "f8")]), "pair")
        file.createVLType("i4", "row")
        file.createEnumType("i1", "colour", {"red": 0, "green": 1})
        for name, dimensions in (("time", ("time",)), ("x", ("x",)), ("data", ("time", "x"))):
            made = file.createVariable(name, "f4", dimensions, zlib=True, fill_value=-1)
            made.units, made.long_name, made.valid = "m", "höj", [1.5, 2.5]
        file["data"][:] = np.ones((3, 4))
        inner = file.createGroup("inner")
        inner.createVariable("pairs", kind, ("x",)).note = "compound"
        inner.createVariable("names", str, ("x",))
        for number in range(20):
            inner.setncattr(f"n{number}", number)


def xarray(path: Path) -> None:
    import xarray

    grid = {"x": [0.5, 1.5, 2.5], "time": np.array(["2026-01-02", "2026-01-03"], "M8[ns]")}
    data = xarray.Dataset(
        {"t": (("time", "x"), np.ones((2, 3)), {"units": "K", "flags": [1, 2]})},
        grid,
        {"title": "x"},
    )
    data.to_netcdf(path, engine="netcdf4")


def nexus(path: Path) -> None:
    from nexusformat.nexus import NXdata, NXentry, NXfield, NXinstrument, NXroot, NXsample

    entry = NXentry(NXsample(name="NaCl", temperature=NXfield(4.2, units="K")), NXinstrument())
    entry.data = NXdata(
        NXfield(np.ones((3, 4)), name="z"),
        (NXfield(np.arange(3.0), name="x", units="mm"), NXfield(np.arange(4.0), name="y")),
    )
    NXroot(entry).save(str(path))


WHOLE_FILES = {
    "shared messages": shared_messages,
    "addresses of 4 bytes": small_addresses,
    "netCDF4": netcdf4,
    "xarray": xarray,
    "NeXus": nexus,
}
