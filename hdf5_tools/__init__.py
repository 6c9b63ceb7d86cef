"""HDF5 metadata search, mirror, append and virtual datasets (not built yet)."""
