"""Harvest by reading object headers, many times faster than through HDF5.

Whatever is unknown or damaged raises `Unparsed`: HDF5 is to be asked then. Every length is compared
with what is there, and what is read of a file is bounded by its size.
"""

import os
import struct
import time
from pathlib import Path
from typing import TypeVar

from hdf5_tools.harvest.format import (
    attribute,
    dataspace,
    datatype,
    group,
    header,
    messages,
    shared,
    superblock,
)
from hdf5_tools.harvest.format.dataspace import Shape
from hdf5_tools.harvest.format.datatype import Datatype
from hdf5_tools.harvest.format.decoder import Decoder
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.header import Header
from hdf5_tools.harvest.format.messages import Walks
from hdf5_tools.harvest.format.source import Source
from hdf5_tools.harvest.format.unparsed import Unparsed
from hdf5_tools.harvest.records import (
    GROUP_FORM,
    FileRecord,
    Form,
    Kind,
    ObjectRecord,
)

# Of a file that is being written, parts may not fit together; soon after they may.
_ATTEMPTS_LIVE, _PAUSE_S = 5, 0.01
_LAYOUT_VIRTUAL_SINCE, _VIRTUAL = 4, 3
_MOST, _BYTES = 20_000, 1024  # types and shapes that are remembered
_DAMAGE = (struct.error, IndexError, KeyError, ValueError, OverflowError)
_T = TypeVar("_T")


class Harvester:
    """Harvests files; keeps for the next what it has learned of types."""

    def __init__(self) -> None:
        self._decoders: dict[tuple[int, int], Decoder] = {}
        self._walks = Walks()
        self._types: dict[bytes, Datatype] = {}
        self._shapes: dict[bytes, tuple[Shape, bool]] = {}

    def harvest(self, path: Path | bytes | str) -> FileRecord:
        """Every object and attribute of a file.

        Raises:
            Unparsed: not understood by this module, or damaged.
            OSError: the file cannot be opened or read.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for attempt in range(1, _ATTEMPTS_LIVE + 1):
                source = Source(descriptor)
                found = superblock.read(source)
                try:
                    return self._harvest(File(source, found, self._walks))
                except (Unparsed, *_DAMAGE):
                    if not found.is_live or attempt == _ATTEMPTS_LIVE:
                        raise
                    time.sleep(_PAUSE_S * attempt)
            raise AssertionError
        except _DAMAGE as error:
            raise Unparsed(f"damaged ({error})") from error
        finally:
            os.close(descriptor)

    def _harvest(self, file: File) -> FileRecord:
        shared.open_heaps(file)
        if file.superblock.end > file.source.size and not file.superblock.is_live:
            raise Unparsed("cut short")
        decoder = self._decoders.setdefault((file.offset, file.length), Decoder())
        objects: list[ObjectRecord] = []
        unfinished: list[ObjectRecord] = []
        waiting = [(b"/", file.superblock.root)]
        while waiting:
            path, address = waiting.pop()
            if address in file.paths:
                continue
            file.paths[address] = path
            file.source.spend(len(path))
            found = header.read(file, address)
            kind, form = self._form(file, found)
            decoded, is_finished = decoder.decode(file, attribute.bodies(file, found))
            record = ObjectRecord(path, kind, form, decoded)
            objects.append(record)
            if not is_finished:
                unfinished.append(record)
            if kind is Kind.GROUP:
                above = path if len(path) == 1 else path + b"/"
                links = group.links(file, found)
                waiting += [(above + name, target) for name, target in reversed(links)]
        for record in unfinished:
            record.attributes = attribute.finished(file, record.attributes)
        return FileRecord(objects)

    def _form(self, file: File, found: Header) -> tuple[Kind, Form]:
        single = found.single
        if messages.SYMBOL_TABLE in single or messages.LINK_INFO in single:
            return Kind.GROUP, GROUP_FORM
        body = shared.resolve(file, messages.DATATYPE, *single[messages.DATATYPE])
        kind = self._types.get(body) or self._remembered(self._types, body, datatype.read(body))
        if messages.DATASPACE not in single:
            return Kind.DATATYPE, (kind.name, None)
        space = shared.resolve(file, messages.DATASPACE, *single[messages.DATASPACE])
        key = file.length.to_bytes(1, "little") + space
        shape, is_unlimited = self._shapes.get(key) or self._remembered(
            self._shapes, key, dataspace.read(file, space)
        )
        if is_unlimited and _is_virtual(single[messages.LAYOUT][1]):
            raise Unparsed("a virtual dataset that grows with its sources")
        return Kind.DATASET, (kind.name, shape)

    @staticmethod
    def _remembered(known: dict[bytes, _T], key: bytes, value: _T) -> _T:
        if len(key) <= _BYTES:
            if len(known) >= _MOST:
                known.clear()
            known[key] = value
        return value


def _is_virtual(layout: bytes) -> bool:
    return layout[0] >= _LAYOUT_VIRTUAL_SINCE and layout[1] == _VIRTUAL
