"""What `append.Writer` writes is what h5py reads."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamgr.errors import ConflictError, InvalidError
from hdf5_tools import append
from hdf5_tools.chunks import Store


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as opened:
        yield opened


def frames(count: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 200, (count, *shape))
    return noise.astype(dtype)


@pytest.mark.parametrize(
    "filters", [{}, {"gzip_level": 4}, {"gzip_level": 1, "shuffle": True}, {"shuffle": True}]
)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">i4", "<f8", "c8", "bool"])
@pytest.mark.parametrize(("shape", "chunk_bytes"), [((), 64), ((3, 5), 1), ((3, 5), 700)])
def test_frames_come_back(
    file: h5py.File, filters: dict[str, int], dtype: str, shape: tuple[int, ...], chunk_bytes: int
) -> None:
    given = frames(53, shape, dtype)
    dataset = append.create(file, "a/b", shape, dtype, chunk_bytes=chunk_bytes, **filters)
    with append.Writer(dataset, flush_frames=10) as writer:
        for number in range(20):
            writer.append(given[number : number + 1].reshape(shape))
        writer.extend(given[20:])
        assert writer.frames == 53
    assert dataset.dtype == np.dtype(dtype)
    assert (dataset[()] == given).all()
    assert append.frames_written(dataset) == 53


def test_a_later_writer_goes_on_inside_a_chunk(file: h5py.File) -> None:
    given = frames(25, (4,), "<u4")
    dataset = append.create(file, "x", (4,), "<u4", chunk_bytes=160, gzip_level=1)
    for first in range(0, 25, 5):
        with append.Writer(dataset) as writer:
            writer.extend(given[first : first + 5])
    assert (dataset[()] == given).all()


@pytest.mark.parametrize("level", [0, 1])
def test_a_compressed_chunk_is_never_written_over(file: h5py.File, level: int) -> None:
    """Not even by one of the same size, which HDF5 would put in its place."""
    given = frames(16, (64,), "<u4")
    dataset = append.create(file, "x", (64,), "<u4", chunk_bytes=4096, gzip_level=level)
    file.swmr_mode = True
    places = []
    for _ in range(2):  # a later writer too
        with append.Writer(dataset, flush_frames=1) as writer:
            for _ in range(8):
                writer.append(given[writer.frames])
                places.append(dataset.id.get_chunk_info_by_coord((0, 0)).byte_offset)
    assert len(set(places)) == 16
    stored = dataset.id.read_direct_chunk((0, 0))[1]
    assert zlib.decompress(stored) == given.tobytes()
    assert (dataset[()] == given).all()


def test_the_buffer_is_not_the_callers(file: h5py.File) -> None:
    dataset = append.create(file, "x", (4,), "<u4", chunk_bytes=64, gzip_level=1)
    mine = np.zeros(4, "<u4")
    with append.Writer(dataset) as writer:
        for number in range(9):
            mine[:] = number
            writer.append(mine)
    assert (dataset[:, 0] == np.arange(9)).all()


def test_whole_chunks_of_many_frames_go_behind_those_that_were_held(file: h5py.File) -> None:
    """3 are held, 5 fill that chunk, 16 are two whole chunks, and 3 are held again."""
    given = frames(54, (4,), "<u4")
    dataset = append.create(file, "x", (4,), "<u4", chunk_bytes=8 * 16)
    with append.Writer(dataset) as writer:
        writer.extend(given[:3])
        writer.extend(given[3:27])
        writer.extend(given[27:].copy(order="F"))
    assert (dataset[()] == given).all()


def test_wrong_frames_are_refused_and_nothing_is_written(file: h5py.File) -> None:
    dataset = append.create(file, "x", (2, 3), "<u2")
    with append.Writer(dataset) as writer:
        with pytest.raises(append.FrameShapeError, match=r"\(2, 3\), not \(3, 2\)"):
            writer.append(np.zeros((3, 2), "<u2"))
        with pytest.raises(append.FrameShapeError):
            writer.extend(np.zeros((2, 3), "<u2"))
        with pytest.raises(append.FrameTypeError, match="uint16, not float64; convert"):
            writer.append(np.zeros((2, 3)))
    assert dataset.shape == (0, 2, 3)
    with pytest.raises(ConflictError, match="closed"):
        writer.append(np.zeros((2, 3), "<u2"))


def test_datasets_that_cannot_be_appended_to_are_named(file: h5py.File) -> None:
    with pytest.raises(InvalidError, match="no fixed size"):
        append.create(file, "s", (), h5py.string_dtype())
    with pytest.raises(InvalidError, match="0 bytes"):
        append.create(file, "z", (0, 3), "u1")
    fixed = file.create_dataset("fixed", (3, 4), "f4")
    with pytest.raises(InvalidError, match="/fixed does not grow"):
        append.Writer(fixed)
    foreign = file.create_dataset("foreign", (0, 4), "f4", maxshape=(None, 4), chunks=(1, 4))
    with pytest.raises(InvalidError, match="/foreign has no counter"):
        append.Writer(foreign)
    squeezed = file.create_dataset(
        "lzf", (0, 4), "f4", maxshape=(None, 4), chunks=(1, 4), compression="lzf"
    )
    squeezed.attrs[append.COUNTER_ATTRIBUTE] = "/lzf_frames"
    with pytest.raises(InvalidError, match="filter lzf"):
        append.Writer(squeezed)


def test_close_flushes_even_after_an_error(file: h5py.File) -> None:
    dataset = append.create(file, "x", (4,), "<u4")
    with pytest.raises(KeyError), append.Writer(dataset) as writer:
        writer.append(np.arange(4, dtype="<u4"))
        raise KeyError("the detector")
    assert append.frames_written(dataset) == 1


class Failing(Store):
    """Does not take some of what is written: on a full disk, or because of Ctrl-C."""

    def __init__(self, inner: Store, counter: h5py.Dataset, errors: list[type[BaseException]]):
        super().__init__(inner.dataset, counter)
        self.errors = errors

    def write(self, chunk: int, encoded: bytes | np.ndarray) -> None:
        if chunk == 2 and self.errors:
            raise self.errors.pop()
        super().write(chunk, encoded)


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_the_disk_did_not_take_is_kept_and_never_counted(
    file: h5py.File, level: int | None, error: type[BaseException]
) -> None:
    """Chunks of four frames; the third is refused, first once, then for good."""
    given = frames(40, (4,), "<u4")
    for name, refusals in (("once", 1), ("for good", 99)):
        dataset = append.create(file, name, (4,), "<u4", chunk_bytes=64, gzip_level=level)
        store = Failing(append.store_of(dataset), append.counter_of(dataset), [error] * refusals)
        writer = append.Writer(dataset, store=store, flush_frames=6, flush_s=None)
        taken = 0
        while taken < 30:
            try:
                writer.append(given[taken])
            except error:
                if refusals > 1:
                    break
            taken = writer.frames
        if refusals > 1:
            with pytest.raises(error):
                writer.close()
        else:
            writer.extend(given[taken:])
            writer.close()
        counted = append.frames_written(dataset)
        assert counted == (6 if refusals > 1 else 40)
        assert (dataset[:counted] == given[:counted]).all()


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        dataset = append.create(file, "entry/x", (4,), "<u4")
        writer = append.Writer(dataset)
        writer.append(np.arange(4, dtype="<u4"))
        writer.close()
        with pytest.raises(ConflictError, match="writer of /entry/x was closed"):
            writer.flush()
        assert dataset.shape == (1, 4)
        late = append.Writer(dataset, flush_s=None)
        late.append(np.arange(4, dtype="<u4"))
    with pytest.raises(ConflictError, match="file of /entry/x was closed before its writer"):
        late.close()
    with h5py.File(tmp_path / "x.h5") as file:
        with pytest.raises(InvalidError, match="opened for reading"):
            append.Writer(file["entry/x"])
        assert append.frames_written(file["entry/x"]) == 1


def test_the_counter_goes_with_its_group(file: h5py.File) -> None:
    for count, name in enumerate(("run1", "run2"), 1):
        dataset = append.create(file, f"{name}/x", (4,), "<u4")
        with append.Writer(dataset) as writer:
            writer.extend(np.zeros((count, 4), "<u4"))
    file.move("run1", "first")
    file.copy("run2", "first/copied")
    with append.Writer(file["run2/x"]) as writer:
        writer.append(np.zeros(4, "<u4"))
    names = ("first/x", "first/copied/x", "run2/x")
    assert [append.frames_written(file[name]) for name in names] == [1, 2, 3]
    file.copy("run2/x", "alone")
    with pytest.raises(InvalidError, match="of the frames of /alone, x_frames, is missing"):
        append.frames_written(file["alone"])


@pytest.mark.parametrize("there", ["x", "x_frames"])
def test_what_exists_is_not_made_again(file: h5py.File, there: str) -> None:
    file[there] = 1
    with pytest.raises(ConflictError, match=f"{there} exists in /"):
        append.create(file, "x", (4,), "<u4")
    assert list(file) == [there]
