"""Tiering between a disk file system and an archive (not built yet)."""
