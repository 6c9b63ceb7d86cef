"""The published usage of an import equals that of a walk of the same tree, bit for bit."""

import os
import time
from pathlib import Path

import pytest

from datamgr.config import Settings
from datamgr.db import Database
from scanners import scan
from scanners.importers import importing
from scanners.importers.source import ListSource
from tests import mounts, oracle, trees
from tests.integration.scanners_importers import rendering
from tests.integration.scanners_importers.rendering import RENDERINGS


def published(database: Database, scan_id: int) -> oracle.RollUps:
    with database.transaction(read_only=True) as session:
        return oracle.stored(session, scan_id)


def import_list(
    settings: Settings, database: Database, text: bytes, name: str, columns: str | None = None
) -> oracle.RollUps:
    file = settings.state_dir / "the.list"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text)
    source = ListSource((str(file),), name, columns)
    request = importing.ImportRequest("imported", source, workers=2)
    return published(database, importing.run(settings, database, request))


def every_byte(root: Path) -> None:
    """A directory and a file in it for every byte that a name may hold."""
    for code in range(1, 256):
        if code not in b"/.":
            directory = os.path.join(os.fsencode(root), b"d" + bytes([code]))
            os.mkdir(directory)
            Path(os.fsdecode(os.path.join(directory, bytes([code])))).write_bytes(b"x" * code)


@mounts.needs_root
@pytest.mark.root
def test_of_hard_links_owners_ages_devices_and_hostile_names(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    trees.fixed(root, int(time.time()))
    (root / "hostile").mkdir()
    trees.hostile(root / "hostile")
    (root / "bytes").mkdir()
    every_byte(root / "bytes")
    request = scan.ScanRequest("walked", [bytes(root)], workers=1)
    walked = published(database, scan.run(settings, database, request))
    found = rendering.find(root)
    for given in RENDERINGS:
        imported = import_list(settings, database, given.write(found), given.name, given.columns)
        if given.name == "lester":
            imported, walked = without_blocks(imported), without_blocks(walked)
        assert imported == walked, given.name


def without_blocks(found: oracle.RollUps) -> oracle.RollUps:
    """Lester lists no blocks; sizes stand for them, so that other files are the biggest."""
    for totals in (*found.usage.values(), *found.directory.values()):
        totals["alloc_bytes"] = totals["alloc_all_bytes"] = 0
    found.age = {key: (files, size, 0) for key, (files, size, _) in found.age.items()}
    found.top_file = {}
    return found
