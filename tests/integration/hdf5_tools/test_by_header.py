"""The parser of object headers says what h5py says, of every kind of file."""

import random
import re
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from hdf5_tools.harvest import by_h5py
from hdf5_tools.harvest.by_header import Harvester
from hdf5_tools.harvest.either import EitherHarvester
from hdf5_tools.harvest.format.unparsed import Unparsed
from tests.integration.hdf5_tools import corpus


def assert_alike(path: Path, harvester: Harvester | None = None) -> None:
    """Also by templates, which are there when the file is read the third time."""
    harvester = harvester or Harvester()
    found = [harvester.harvest(path).objects for _ in range(3)][-1]
    wanted = by_h5py.harvest(path).objects
    assert [o.path for o in found] == [o.path for o in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert (one.kind, one.form) == (other.kind, other.form), one.path
        assert [a[:2] for a in one.attributes] == [a[:2] for a in other.attributes]
        for mine, theirs in zip(one.attributes, other.attributes, strict=True):
            assert repr(mine) == repr(theirs)  # NaN is not itself, and True not 1
    assert len(wanted) > 1 or wanted[0].attributes


@pytest.fixture(scope="module")
def experienced() -> Harvester:
    """It has read many files before, and must not mistake one for another."""
    return Harvester()


@pytest.mark.parametrize("libver", corpus.LIBVERS)
@pytest.mark.parametrize("kind", corpus.KINDS, ids=lambda kind: kind.__name__)
def test_all_kinds_of_content(
    tmp_path: Path, kind: corpus.Fill, libver: str, experienced: Harvester
) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        kind(file)
    assert_alike(tmp_path / "x.h5")
    assert_alike(tmp_path / "x.h5", experienced)


@pytest.mark.parametrize("name", corpus.WHOLE_FILES)
def test_files_of_other_makers(tmp_path: Path, name: str) -> None:
    corpus.WHOLE_FILES[name](tmp_path / "x.h5")
    assert_alike(tmp_path / "x.h5")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("size", [512, 4096])
def test_a_user_block(tmp_path: Path, size: int, libver: str) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=libver, userblock_size=size) as file:
        corpus.references(file)
        corpus.texts(file)
    with (tmp_path / "x.h5").open("r+b") as raw:
        raw.write(b"x" * size)
    assert_alike(tmp_path / "x.h5")


def test_what_is_learned_of_a_file_is_not_believed_of_another(tmp_path: Path) -> None:
    """Attributes that differ in their types, shapes and order of bytes only."""
    harvester = Harvester()
    values = [
        np.int32(1), np.uint32(1), np.float32(1), np.array([1], "i4"), np.array(1, ">i4"),
        np.array(1, ">f4"), np.bytes_(b"text"), np.array([[1]], "i4"), np.void(b"text"),
    ]  # fmt: skip
    for libver in ("earliest", "latest"):
        for number in range(40):
            path = tmp_path / f"{libver}{number}.h5"
            with h5py.File(path, "w", libver=libver) as file:
                for each in range(3):
                    made = file.create_group(f"g{each}")
                    for k in range(10):
                        made.attrs[f"a{k}"] = values[(number * (k + 3) + each) % len(values)]
            assert_alike(path, harvester)


def test_a_hundred_thousand_attributes_of_one_object(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        for number in range(100_000):
            h5py.h5a.create(
                file.id, b"%d" % number, h5py.h5t.STD_I32LE, h5py.h5s.create(h5py.h5s.SCALAR)
            )
        for number in range(0, 100_000, 7):
            h5py.h5a.delete(file.id, b"%d" % number)
    [root] = Harvester().harvest(tmp_path / "x.h5").objects
    assert [name for name, _, _ in root.attributes] == sorted(
        b"%d" % number for number in range(100_000) if number % 7
    )
    assert {each[1:] for each in root.attributes} == {(("int32", ()), (0,))}


def test_of_a_large_file_no_more_than_its_metadata_is_read(tmp_path: Path) -> None:
    """A dataset of 1 TiB, a group before and one behind it."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("before").attrs["a"] = "text"
        file.create_dataset("data", (1 << 40,), "u1")[-1] = 1
        file.create_group("behind").attrs["a"] = ["x" * 70_000, "y"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_alike(tmp_path / "x.h5")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("driver", ["family", "split"])
def test_one_of_several_files_is_refused_clearly(tmp_path: Path, driver: str, libver: str) -> None:
    ways = {
        "family": {"memb_size": 4096},
        "split": {"meta_ext": b"-m.h5", "raw_ext": b"-r.h5"},
    }
    name = "x%d.h5" if driver == "family" else "x"
    with h5py.File(tmp_path / name, "w", driver=driver, libver=libver, **ways[driver]) as file:
        file["data"] = np.arange(3000)
    first = tmp_path / ("x0.h5" if driver == "family" else "x-m.h5")
    record = EitherHarvester().harvest(bytes(first))
    assert not record.objects
    assert record.reason is not None
    assert "one of several files" in record.reason


def test_what_the_parser_does_not_know_hdf5_is_asked(tmp_path: Path) -> None:
    """A virtual dataset that is as long as its source."""
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file.create_dataset("data", (7, 2), "f4", maxshape=(None, 2))
    view = h5py.VirtualLayout((1, 2), "f4", maxshape=(None, 2))
    source = h5py.VirtualSource(str(tmp_path / "source.h5"), "data", (7, 2), maxshape=(None, 2))
    view[: h5py.h5s.UNLIMITED, :] = source[: h5py.h5s.UNLIMITED, :]
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("data", view)
    with pytest.raises(Unparsed, match="virtual"):
        Harvester().harvest(tmp_path / "x.h5")
    found = EitherHarvester().harvest(bytes(tmp_path / "x.h5")).objects
    assert [each.form for each in found] == [("group", None), ("float32", (7, 2))]


def test_a_text_of_megabytes_is_left_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["long"] = np.bytes_(b"x" * 3_000_000)
    with pytest.raises(Unparsed, match="cut short"):
        Harvester().harvest(tmp_path / "x.h5")
    [root] = EitherHarvester().harvest(bytes(tmp_path / "x.h5")).objects
    assert root.attributes == [(b"long", ("string", ()), (b"x" * 3_000_000,))]


def test_a_file_that_is_not_to_be_read_says_why(tmp_path: Path) -> None:
    record = EitherHarvester().harvest(bytes(tmp_path))
    assert record.reason is not None
    assert "directory" in record.reason
    record = EitherHarvester().harvest(bytes(tmp_path / "absent"))
    assert record.reason == "HDF5 cannot read it: No such file or directory"


def test_a_file_that_a_writer_lets_others_read(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("data", (0,), "f4", maxshape=(None,), chunks=(10,))
        for number in range(20):
            data.attrs[f"a{number}"] = "text" * number
        with pytest.raises(Unparsed):  # not flushed yet, not to be read
            Harvester().harvest(path)
        file.swmr_mode = True
        data.resize((50,))
        data.attrs["a3"] = "text" * 3
        data.flush()
        live = Harvester().harvest(path)
        assert live.objects[1].form == ("float32", (50,))
    assert repr(live) == repr(by_h5py.harvest(path))


def test_a_file_that_grows_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    writer = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.integration.hdf5_tools.appender",
            str(path),
            "1",
            "no",
            "512",
        ],
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    try:
        writer.stdout.readline()
        harvester, seen = Harvester(), [0]
        until = time.monotonic() + 3
        while time.monotonic() < until:
            objects = {each.path: each for each in harvester.harvest(path).objects}
            _, shape = objects[b"/data"].form
            assert shape is not None
            assert shape[1:] == (4, 8)
            assert shape[0] >= seen[-1]
            seen.append(shape[0])
            assert len(objects) == 3
    finally:
        writer.kill()
        writer.communicate()
    assert len(set(seen)) > 3


def test_damage_is_noticed_by_checksums(tmp_path: Path) -> None:
    """Every bit of what has a checksum counts."""
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        for number in range(12):
            file.attrs[f"a{number}"] = number
    content = (tmp_path / "x.h5").read_bytes()
    for signature in (b"OHDR", b"FRHP", b"BTHD", b"BTLF", b"FHDB"):
        harmed = bytearray(content)
        harmed[content.index(signature) + 22] ^= 1
        (tmp_path / "harmed.h5").write_bytes(harmed)
        with pytest.raises(Unparsed, match=r"checksum|damaged"):
            Harvester().harvest(tmp_path / "harmed.h5")


def test_what_leads_back_to_itself_ends(tmp_path: Path) -> None:
    """A node of a B-tree that is its own child, an object header that continues in itself."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a")
        for number in range(20):
            file.attrs[f"n{number}"] = number
    content = path.read_bytes()
    node = content.index(b"TREE")
    looped = bytearray(content)
    looped[node + 5] = 1  # its level
    looped[node + 32 : node + 40] = node.to_bytes(8, "little")
    path.write_bytes(looped)
    with pytest.raises(Unparsed, match="B-tree"):
        Harvester().harvest(path)
    # The message of kind 16 and 16 bytes says where the header goes on, and how far.
    message = content.index(b"\x10\x00\x10\x00\x00\x00\x00\x00")
    place = int.from_bytes(content[message + 8 : message + 16], "little")
    looped = bytearray(content)
    looped[place : place + 24] = content[message : message + 24]
    path.write_bytes(looped)
    with pytest.raises(Unparsed, match="continues in itself"):
        Harvester().harvest(path)


def test_parts_that_overlap_do_not_multiply(tmp_path: Path) -> None:
    """65 objects of 1000 texts, all of them the same megabyte: 65 GB if it were believed."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["large"] = "x" * (1 << 20)
        for number in range(65):
            made = file.create_group(f"g{number}")
            made.attrs.create("a", ["z" * 77] * 1000, dtype=h5py.string_dtype())
    assert len(Harvester().harvest(path).objects) == 66
    content = path.read_bytes()
    large = re.search(rb"\x00\x00\x10\x00.{8}\x01\x00\x00\x00", content, re.DOTALL)
    assert large is not None
    place = rb"\x4d\x00\x00\x00.{8}..\x00\x00"
    content, count = re.subn(place, lambda found: large[0], content, flags=re.DOTALL)
    assert count >= 65_000
    path.write_bytes(content)
    with pytest.raises(Unparsed, match="overlap"):
        Harvester().harvest(path)


def test_names_that_overlap_do_not_multiply(tmp_path: Path) -> None:
    """20 000 links, each named by what is left of 3 MB of text: 60 GB if it were believed."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for number in range(20_000):
            file.create_group(f"{number:0150}")
    content = path.read_bytes()
    heap = content.index(b"HEAP")
    size, _, data = struct.unpack_from("<QQQ", content, heap + 8)
    text = content[data : data + size].replace(b"\0", b"x")[:-8] + bytes(8)
    path.write_bytes(content[:data] + text + content[data + size :])
    with pytest.raises(Unparsed, match="overlap"):
        Harvester().harvest(path)


def harmed(content: bytes, chance: random.Random) -> bytes:
    """Bits, bytes and numbers changed, parts copied over others, cut short."""
    made = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at, kind = chance.randrange(len(made)), chance.random()
        if kind < 0.3:
            made[at] ^= 1 << chance.randrange(8)
        elif kind < 0.6:
            made[at] = chance.randrange(256)
        elif kind < 0.7:
            made[at : at + 8] = b"\xff" * min(8, len(made) - at)
        elif kind < 0.8:
            made[at : at + 4] = chance.randbytes(4)
        elif kind < 0.95:
            length, source = chance.randrange(1, 64), chance.randrange(len(made))
            made[at : at + length] = made[source : source + length]
        else:
            del made[max(at, 1) :]
    return bytes(made)


@pytest.mark.soak
@pytest.mark.parametrize("checked", [True, False], ids=["checksums", "no checksums"])
def test_damaged_files_are_harvested_or_left_to_hdf5(
    tmp_path: Path, request: pytest.FixtureRequest, checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with checksums that are always right, which lets the damage in deeper."""
    from hdf5_tools.harvest.format import btree, fractal_heap, header, shared, superblock

    if not checked:
        request.addfinalizer(btree._leaf.cache_clear)
        for module in (btree, fractal_heap, header, shared, superblock):
            monkeypatch.setattr(module, "verify", lambda block: block)
        monkeypatch.setattr(fractal_heap, "verify_inside", lambda block, at: None)
    full = request.config.getoption("full_soak")
    chance = random.Random(request.config.getoption("seed") or 1)
    contents = []
    for kind in corpus.KINDS:
        if kind not in (corpus.many_objects, corpus.large_attributes):
            for libver in ("earliest", "latest"):
                with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
                    kind(file)
                contents.append((tmp_path / "x.h5").read_bytes())
    for name, write in corpus.WHOLE_FILES.items():
        write(tmp_path / f"{name}.h5")
        contents.append((tmp_path / f"{name}.h5").read_bytes())
    harvester, path, outcomes = Harvester(), tmp_path / "harmed.h5", [0, 0]
    for _ in range(50_000 if full else 1500):
        path.write_bytes(harmed(chance.choice(contents), chance))
        begin = time.process_time()
        try:
            assert harvester.harvest(path).objects[0].path == b"/"
            outcomes[0] += 1
        except Unparsed:
            outcomes[1] += 1
        assert time.process_time() - begin < 10
    assert min(outcomes) > 100
