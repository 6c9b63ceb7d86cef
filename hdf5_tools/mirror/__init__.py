"""HDF5 files of which a receiver elsewhere keeps a replica, while they are written."""

from hdf5_tools.mirror.session import WhenSlow
from hdf5_tools.mirror.stream import Stream, stream
from hdf5_tools.mirror.writer import File, open

__all__ = ["File", "Stream", "WhenSlow", "open", "stream"]
