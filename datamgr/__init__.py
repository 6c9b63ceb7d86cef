"""The shared core of datamgr: configuration, database, tasks, command line and HTTP."""
