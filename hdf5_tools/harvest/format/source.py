"""The bytes of a file, read by address: never beyond its end, and never more than is plausible."""

import os
import struct
from functools import cache

from hdf5_tools.harvest.format.unparsed import Unparsed

# Small files come in one read; of others only windows around the metadata are read.
_WHOLE = 256 << 10
_WINDOW = 32 << 10
_WINDOWS = 512
# What the structures of an honest file add up to is less than what it has; those of a hostile one
# may overlap.
_ALLOWANCE = 64 << 20
_MOST = 4 << 30


class Source:
    """Addresses count from `base`, the position of the superblock. `left`: bytes that may still be
    read, or made of those; the next reading notices that there are none.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.base = 0
        self.left = min(_ALLOWANCE + 16 * self.size, _MOST)
        self._windows: dict[int, bytes] = {}
        # The part that was read from last, or all of a small file, and where it is.
        self._near = os.pread(descriptor, _WHOLE, 0)
        self._begin, self._end = 0, len(self._near)

    def read(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes.

        Raises:
            Unparsed: the file does not have them, or its parts overlap too much.
        """
        self.left -= length + 64
        if self.left < 0:
            raise Unparsed("its parts overlap")
        at = self.base + address
        end = at + length
        if at >= self._begin and end <= self._end:
            return self._near[at - self._begin : end - self._begin]
        if end > self.size:
            raise Unparsed("a part lies beyond the end of the file")
        if length > _WINDOW:
            data = os.pread(self._descriptor, length, at)
        else:
            data = self._window(at // _WINDOW)[at % _WINDOW :][:length]
            if len(data) < length:
                data += self._window(at // _WINDOW + 1)[: length - len(data)]
        if len(data) < length:
            raise Unparsed("the file has become shorter")
        return data

    def peek(self, address: int, length: int) -> bytes:
        """Up to `length` bytes, at least one; less at the end of the file.

        Raises:
            Unparsed: there are none.
        """
        at = self.base + address - self._begin
        if at >= 0 and at + length <= self._end - self._begin:
            self.left -= length
            return self._near[at : at + length]
        return self.read(address, max(1, min(length, self.size - self.base - address)))

    def spend(self, size: int) -> None:
        """Take from what may be read and made of this file.

        Raises:
            Unparsed: nothing is left.
        """
        self.left -= size
        if self.left < 0:
            raise Unparsed("its parts overlap")

    def _window(self, number: int) -> bytes:
        window = self._windows.get(number)
        if window is None:
            if len(self._windows) >= _WINDOWS:
                self._windows.clear()
            window = os.pread(self._descriptor, _WINDOW, number * _WINDOW)
            self._windows[number] = window
        self._near = window
        self._begin = number * _WINDOW
        self._end = self._begin + len(window)
        return window


class Forms(dict[str, struct.Struct]):
    """Little-endian structures by what `struct` calls them, with O for an address and L for a
    length; o and l for those that are passed over. `offset`, `length`: their sizes in bytes.
    """

    def __init__(self, offset: int, length: int) -> None:
        super().__init__()
        letters = {2: "H", 4: "I", 8: "Q"}
        self._letters = {
            "O": letters[offset], "L": letters[length], "o": f"{offset}x", "l": f"{length}x",
        }  # fmt: skip

    def __missing__(self, form: str) -> struct.Struct:
        made = struct.Struct("<" + "".join(self._letters.get(each, each) for each in form))
        self[form] = made
        return made


@cache
def forms(offset: int, length: int) -> Forms:
    """The structures of files with such sizes."""
    return Forms(offset, length)
