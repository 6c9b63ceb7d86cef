"""The `datamgr` command."""
