"""HDF5 tools: metadata index and search, append, virtual datasets, mirror of a stream."""
