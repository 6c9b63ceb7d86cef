"""Where scans are kept: one directory of Parquet files each, complete only with its manifest."""

import os
import shutil
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from datamgr.errors import NotFoundError, UnavailableError
from scanners import parts, record

MANIFEST = "manifest.json"
PARTIAL = ".partial"
FORMAT_VERSION = 1


class Manifest(BaseModel):
    """What a complete scan says about itself; written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = FORMAT_VERSION
    filesystem: str
    scan_id: int
    source: str
    host: str
    roots_b64: tuple[str, ...]
    started_at: datetime
    finished_at: datetime
    entries: int
    directories: int
    errors: dict[str, int]
    atime_policy: str


class ScanStore:
    """The scans of one file system below `<store_dir>/<filesystem>/`."""

    def __init__(self, store_dir: Path, filesystem: str) -> None:
        self.directory = store_dir / filesystem

    def path(self, scan_id: int) -> Path:
        """Where a complete scan is."""
        return self.directory / str(scan_id)

    def begin(self, scan_id: int) -> Path:
        """Make the directories of a scan that is still being written.

        Raises:
            UnavailableError: they cannot be made, or a scan of that number is there.
        """
        if self.path(scan_id).exists():
            raise UnavailableError(
                f"{self.path(scan_id)} is there already, from another database; "
                f"move the scans in {self.directory} away and scan again"
            )
        partial = self.directory / f"{scan_id}{PARTIAL}"
        try:
            for dataset in record.SCHEMAS:
                (partial / dataset).mkdir(parents=True)
        except OSError as error:
            raise UnavailableError(
                f"cannot write the scan store {self.directory}: {error.strerror}"
            ) from error
        return partial

    def scratch(self, scan_id: int) -> Path:
        """Where the roll-up of a scan may write; `discard_partial` finds what it leaves."""
        return self.directory / f"{scan_id}.rollup{PARTIAL}"

    def complete(self, scan_id: int, manifest: Manifest) -> Path:
        """Add the manifest and move the scan to its name, so that it exists wholly or not at all.

        Raises:
            UnavailableError: the disk refuses it.
        """
        partial, final = self.directory / f"{scan_id}{PARTIAL}", self.path(scan_id)
        try:
            with (partial / MANIFEST).open("w") as file:
                file.write(manifest.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            sync_directory(partial)
            partial.rename(final)
            sync_directory(self.directory)
        except OSError as error:
            raise UnavailableError(f"cannot complete the scan {final}: {error.strerror}") from error
        return final

    def manifest(self, scan_id: int) -> Manifest:
        """The manifest of a complete scan.

        Raises:
            NotFoundError: the scan is not in the store, or not complete.
            UnavailableError: the manifest is damaged.
        """
        path = self.path(scan_id) / MANIFEST
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise NotFoundError(f"the files of scan {scan_id} are not at {path.parent}") from error
        except (OSError, ValidationError) as error:
            raise UnavailableError(f"{path} is damaged; remove scan {scan_id}") from error

    def intact_manifest(self, scan_id: int) -> Manifest:
        """As `manifest`, but the files must hold all the rows that it tells of.

        Raises:
            NotFoundError: the scan is not in the store, or not complete.
            UnavailableError: files are damaged or missing.
        """
        manifest, path = self.manifest(scan_id), self.path(scan_id)
        told = manifest.entries, manifest.directories, sum(manifest.errors.values())
        try:
            found = tuple(parts.count_rows(path, name) for name in ("entries", "dirs", "errors"))
        except (OSError, pa.ArrowInvalid) as error:
            raise UnavailableError(f"{path} is damaged; remove scan {scan_id}") from error
        if found != told:
            raise UnavailableError(
                f"{path} is damaged: it holds {found[0]} files of {told[0]} and {found[1]} "
                f"directories of {told[1]}; remove scan {scan_id}"
            )
        return manifest

    def discard_partial(self, scan_id: int | None = None) -> list[Path]:
        """Remove what an interrupted scan left, or all of them.

        All is only for the holder of the file system's lock.

        Raises:
            UnavailableError: it cannot be removed.
        """
        left = sorted(
            path
            for path in self.directory.glob(f"*{PARTIAL}")
            if scan_id is None or path.name.split(".")[0] == str(scan_id)
        )
        for path in left:
            _remove_tree(path)
        return left

    def remove(self, scan_id: int) -> None:
        """Remove a scan's files. It stops being complete first, so a crash leaves no half scan.

        Raises:
            UnavailableError: they cannot be removed.
        """
        path = self.path(scan_id)
        if path.exists():
            going = self.directory / f"{scan_id}.removed{PARTIAL}"
            try:
                path.rename(going)
            except OSError as error:
                raise UnavailableError(f"cannot remove {path}: {error.strerror}") from error
            _remove_tree(going)


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise UnavailableError(f"cannot remove {path}: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Wait until the directory's names are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
