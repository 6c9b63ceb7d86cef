"""The HDF5 file format: what lies where in a file, as far as a harvest needs it.

Source of all of it: HDF5 File Format Specification Version 3.0, whose sections the modules name.
"""
