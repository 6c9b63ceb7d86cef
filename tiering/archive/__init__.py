"""The archive: containers that are plain tar files, and the stores that keep them."""
