"""Fixtures of the importers' tests: imports without a database, as Python rows."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scanners.importers import importing
from scanners.importers.source import ListSource
from scanners.record import SCHEMAS
from tests.walked import Walked, rows

Imported = Callable[..., Walked]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imported:
    """Import lists, given as bytes or paths, and read the datasets; counts must agree.

    In a thread, for processes take a second to begin; test_command and test_equals_walk have them.
    """
    monkeypatch.setattr(importing, "_processes", ThreadPoolExecutor)
    numbers = itertools.count()

    def run(name: str, *lists: bytes | Path, max_depth: int = 1000, **options: Any) -> Walked:
        scan_dir = tmp_path / f"it's scan {next(numbers)}"
        for dataset in SCHEMAS:
            (scan_dir / dataset).mkdir(parents=True)
        files = []
        for number, text in enumerate(lists):
            path = text if isinstance(text, Path) else scan_dir / f"list{number}"
            if isinstance(text, bytes):
                path.write_bytes(text)
            files.append(str(path))
        source = ListSource(tuple(files), name, **options).checked()
        result = importing.fill(source, scan_dir, max_depth=max_depth, workers=1)
        found = Walked(result, *(rows(scan_dir, name) for name in ("dirs", "entries", "errors")))
        assert (result.entries, result.directories) == (len(found.entries), len(found.dirs))
        assert sum(result.errors.values()) == len(found.errors)
        assert not (scan_dir / "scratch").exists()
        return found

    return run
