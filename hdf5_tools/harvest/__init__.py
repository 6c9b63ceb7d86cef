"""Harvest: every object and attribute of a file, without its raw data."""
