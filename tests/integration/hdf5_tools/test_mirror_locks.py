"""Python's garbage collector meets h5py's lock in the thread that sends."""

import gc
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from hdf5_tools import mirror
from hdf5_tools.mirror.ring import Ring
from tests.integration.hdf5_tools.mirroring import receiving


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("when_slow", ["block", "catch-up"])
def test_a_collection_in_the_sending_thread_holds_nobody_up_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_collector: None, when_slow: str
) -> None:
    """It holds the session's lock and waits for h5py's; the writer holds that and waits for it."""
    with receiving(tmp_path) as receiver:
        other = h5py.File(tmp_path / "other.h5", "w")
        collected = 0

        def release(ring: Ring, number: int) -> None:
            nonlocal collected
            collected += gc.collect()
            original(ring, number)

        original = Ring.release
        monkeypatch.setattr(Ring, "release", release)
        with mirror.open(
            receiver.url("a.h5"), tmp_path / "a.h5", token_file=tmp_path / "token",
            when_slow=when_slow, buffer_bytes=1 << 22,
        ) as file:  # fmt: skip
            for number in range(8):
                garbage = [other.create_group(f"{number}")]
                garbage.append(garbage)  # type: ignore[arg-type]
                del garbage
                file[f"{number}"] = np.full(1 << 20, number, np.uint8)
        other.close()
        assert collected
        assert (receiver.into / "a.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
