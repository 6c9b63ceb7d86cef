"""A detector: appends frames whose every pixel is their number, and says what was flushed."""

import itertools
import sys
from pathlib import Path

import h5py
import numpy as np

from hdf5_tools import append

FRAME = (4, 8)


def frame(number: int) -> np.ndarray:
    return np.full(FRAME, number, np.uint32)


def main(path: Path, flush_frames: int, gzip: str, chunk_bytes: int) -> None:
    new = not path.exists()
    with h5py.File(path, "w" if new else "r+", libver="latest") as file:
        if new:
            level = 1 if gzip == "gzip" else None
            append.create(
                file, "data", FRAME, np.uint32, chunk_bytes=chunk_bytes, gzip_level=level,
                shuffle=level is not None,
            )  # fmt: skip
        file.swmr_mode = True
        with append.Writer(file["data"], flush_frames=flush_frames, flush_s=None) as writer:
            for number in itertools.count(writer.frames):
                writer.append(frame(number))
                if (number + 1) % flush_frames == 0:
                    writer.flush()
                    print(writer.frames, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
