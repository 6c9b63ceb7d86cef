"""Blocks of metadata that a kill left half written are found in every place where they may be."""

import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from hdf5_tools import append, recover, torn

# So many chunks that there is every kind of block: below super blocks, and in pages.
FRAMES = 150_000
KINDS = (b"OHDR", b"EAHD", b"EAIB", b"EASB", b"EADB")
Block = tuple[int, int, bytes | None]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a killed writer leaves it: marked, and longer than what counts."""
    folder = tmp_path_factory.mktemp("torn")
    with h5py.File(folder / "live.h5", "w", libver="latest", userblock_size=512) as file:
        dataset = append.create(file, "a/b", (), "<u8", chunk_bytes=8)
        file.swmr_mode = True
        with append.Writer(dataset, flush_s=None) as writer:
            writer.extend(np.arange(FRAMES, dtype="<u8"))
            writer.flush()
            shutil.copy(folder / "live.h5", folder / "left.h5")
    return folder / "left.h5"


@pytest.fixture
def looked_at(left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """Place in the file, length and signature of every block whose checksum is looked at."""
    blocks: list[Block] = []
    original = torn._File.checked

    def checked(
        self: torn._File, at: int, length: int, signature: bytes | None = None
    ) -> bytes | None:
        blocks.append((self.base + at, length, signature))
        return original(self, at, length, signature)

    shutil.copy(left, tmp_path / "whole.h5")
    with monkeypatch.context() as patched:
        patched.setattr(torn._File, "checked", checked)
        done = recover.recover(tmp_path / "whole.h5")
    assert (done.was_marked, done.mended, done.frames) == (True, 0, {"a/b": FRAMES})
    return blocks


def test_every_block_of_the_index_is_looked_at(left: Path, looked_at: list[Block]) -> None:
    content = left.read_bytes()
    counted = Counter(signature for _, _, signature in looked_at)
    for kind in KINDS[1:]:
        assert counted[kind] == content.count(kind) > 0, kind
    assert counted[None] > 2  # pages, which have no signature
    assert len(set(looked_at)) == len(looked_at)


def harm(source: Path, target: Path, at: int) -> None:
    content = bytearray(source.read_bytes())
    content[at] ^= 0x55
    target.write_bytes(content)


def test_a_wrong_checksum_in_any_kind_of_block_is_mended(
    left: Path, looked_at: list[Block], tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    for kind, number in (*((kind, 0) for kind in KINDS), (b"EADB", 70), (None, 0), (None, 5)):
        at, length, _ = [block for block in looked_at if block[2] == kind][number]
        harm(tmp_path / "whole.h5", path, at + length - 1)  # in what has no marks any more
        with pytest.raises((OSError, KeyError)), h5py.File(path) as file:
            file["a/b"][()]
        harm(left, path, at + length - 1)
        assert recover.recover(path).mended == 1, kind
        with h5py.File(path) as file:
            assert (file["a/b"][()] == np.arange(FRAMES, dtype="<u8")).all()
    assert recover.recover(path) == recover.Recovered(False, 0, {"a/b": FRAMES})


def test_what_is_no_index_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    for version in ("earliest", "latest"):
        with h5py.File(path, "w", libver=version) as file:
            file["whole"] = np.arange(10)
            file.create_dataset("fixed", (10,), "i4", chunks=(3,))
            file.create_dataset("grows", (10, 10), "i4", chunks=(3, 3), maxshape=(None, None))
            headers = [h5py.h5o.get_info(file[name].id).addr for name in file]
        before = path.read_bytes()
        with path.open("r+b") as opened:
            assert [torn.mend(opened.fileno(), header) for header in headers] == [0, 0, 0]
            assert torn.mend(opened.fileno(), len(before) - 3) == 0
        assert path.read_bytes() == before
