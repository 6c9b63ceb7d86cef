"""Index: attributes of many files, searched in place in memory-mapped segments."""
