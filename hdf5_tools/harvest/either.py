"""Harvest by object headers; through HDF5 what those do not tell."""

from hdf5_tools.harvest import by_h5py, by_header
from hdf5_tools.harvest.format.unparsed import OneOfSeveral, Unparsed
from hdf5_tools.harvest.records import FileRecord, Refused

_ONE_OF_SEVERAL = "it is one of several files that make up one (family or split driver of HDF5)"


class EitherHarvester:
    """Harvests any file. HDF5 may crash on damaged ones: belongs in a `sandbox`."""

    def __init__(self) -> None:
        self._by_header = by_header.Harvester()

    def harvest(self, path: bytes) -> FileRecord:
        """The record of a file; with a reason if HDF5 does not read it either."""
        try:
            try:
                return self._by_header.harvest(path)
            except OneOfSeveral:
                raise Refused(_ONE_OF_SEVERAL) from None
            except (Unparsed, OSError):
                return by_h5py.harvest(path)
        except Refused as refusal:
            return FileRecord([], str(refusal), refusal.may_pass)
        except MemoryError:
            return FileRecord([], "it needs too much memory")
