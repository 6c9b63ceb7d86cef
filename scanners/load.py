"""Publish a scan: its roll-ups go into PostgreSQL by COPY and become visible in one transaction."""

import io
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import db, units
from scanners import models

if TYPE_CHECKING:  # ibis takes longer to load than most commands of `datamgr scan` take
    from scanners.rollup import Rollup, ScanProject


def publish(
    session: orm.Session,
    scan: models.Scan,
    filesystem: str,
    rollup: "Rollup",
    projects: "Iterable[ScanProject]",
    top_files: int,
    loaded: str | None = None,
) -> None:
    """Replace what the database holds of this scan by its roll-ups; the caller commits.

    `loaded` is a table that has the directories already (see `spark_load`) and becomes the
    partition. Without one a crash before the commit leaves nothing behind: the partition, too,
    belongs to the transaction.

    Raises:
        UnavailableError: the engine or the database gave up.
    """
    staging = loaded or loading_name(scan.id, "own")
    if not loaded:
        create_detached(session, staging)
        copy(session, staging, scan.id, rollup.batches(rollup.directories()))
    _clear_rows(session, scan.id)
    _insert_projects(session, scan.id, projects)
    requirements = rollup.rules.requirements
    if requirements:
        rules = [
            {"scan_id": scan.id, "access_id": number, "requirement": text}
            for number, text in requirements.items()
        ]
        session.execute(sa.insert(models.access_rule), rules)
    copy(session, "usage", scan.id, rollup.batches(rollup.usage()))
    copy(session, "age_bin", scan.id, rollup.batches(rollup.ages()))
    copy(session, "top_file", scan.id, map(_with_path, rollup.batches(rollup.top_files(top_files))))
    session.execute(
        sa.text(REMEMBER_HISTORY),
        {
            "scan_id": scan.id,
            "filesystem": filesystem,
            "scanned_at": scan.started_at,
            "most": units.MAX_BIGINT,
        },
    )
    _attach(session, scan.id, staging)


# One row a project, for trends; quotas as they are now.
REMEMBER_HISTORY = """
INSERT INTO project_history (scan_id, filesystem, project, scanned_at, files, directories,
    size_bytes, alloc_bytes, files_all_links, size_all_bytes, alloc_all_bytes,
    quota_bytes, quota_inodes)
SELECT :scan_id, :filesystem, p.name, :scanned_at, coalesce(sum(u.files), 0),
    coalesce(sum(u.directories), 0), least(coalesce(sum(u.size_bytes), 0), :most),
    coalesce(sum(u.alloc_bytes), 0), coalesce(sum(u.files_all_links), 0),
    least(coalesce(sum(u.size_all_bytes), 0), :most), coalesce(sum(u.alloc_all_bytes), 0),
    min(q.quota_bytes), min(q.quota_inodes)
FROM scan_project p
LEFT JOIN usage u ON u.scan_id = p.scan_id AND u.project_number = p.number
LEFT JOIN project q ON q.id = p.project_id
WHERE p.scan_id = :scan_id
GROUP BY p.name
"""


def _attach(session: orm.Session, scan_id: int, staging: str) -> None:
    """Make a loaded table the scan's partition.

    Last of all: where it replaces an earlier one, dropping that keeps readers waiting until the
    commit.
    """
    partition = partition_name(scan_id)
    session.execute(
        sa.text(f"ALTER TABLE {staging} ADD CONSTRAINT own_scan CHECK (scan_id = {scan_id})")
    )
    session.execute(sa.text(f"ANALYZE {staging}"))
    session.execute(sa.text(f"DROP TABLE IF EXISTS {partition}"))
    session.execute(sa.text(f"ALTER TABLE {staging} RENAME TO {partition}"))
    session.execute(
        sa.text(f"ALTER TABLE directory ATTACH PARTITION {partition} FOR VALUES IN ({scan_id})")
    )
    drop_unpublished(session, scan_id)


def clear(session: orm.Session, scan_id: int) -> None:
    """Take a scan's roll-ups out of the database; its history stays unless it is loaded again."""
    session.execute(sa.text(f"DROP TABLE IF EXISTS {partition_name(scan_id)}"))
    _clear_rows(session, scan_id)


def _clear_rows(session: orm.Session, scan_id: int) -> None:
    for table in ("usage", "age_bin", "top_file", "access_rule", "scan_project"):
        session.execute(
            sa.text(f"DELETE FROM {table} WHERE scan_id = :scan_id"), {"scan_id": scan_id}
        )


def forget_history(session: orm.Session, scan_id: int) -> None:
    """Take a scan out of the history too."""
    session.execute(
        sa.text("DELETE FROM project_history WHERE scan_id = :scan_id"), {"scan_id": scan_id}
    )


def partition_name(scan_id: int) -> str:
    """The table that holds the directories of one scan."""
    return f"directory_scan_{int(scan_id)}"


def create_detached(session: orm.Session, table: str) -> None:
    """A table of its own while it is filled; attaching it as a partition builds its indexes."""
    session.execute(sa.text(f"CREATE TABLE {table} (LIKE directory INCLUDING DEFAULTS)"))


def loading_name(scan_id: int, token: str) -> str:
    """A table that is loaded before the publication; `drop_unpublished` finds it by its name."""
    return f"{partition_name(scan_id)}_loading_{token}"


def drop_unpublished(session: orm.Session, scan_id: int) -> None:
    """Drop what loads of a scan left that broke off; the caller holds the scan's row locked."""
    found = session.scalars(
        sa.text("SELECT relname FROM pg_class WHERE relkind = 'r' AND starts_with(relname, :name)"),
        {"name": loading_name(scan_id, "")},
    ).all()
    for table in found:
        session.execute(sa.text(f"DROP TABLE {table}"))


def _insert_projects(session: orm.Session, scan_id: int, projects: "Iterable[ScanProject]") -> None:
    rows = {
        project.number: {
            "scan_id": scan_id,
            "number": project.number,
            "name": project.name,
            "path": project.path,
            "project_id": project.project_id,
        }
        # A project above several roots has an entry for each of them: the first one stands.
        for project in reversed(list(projects))
    }
    session.execute(sa.insert(models.scan_project), list(rows.values()))


def copy(session: orm.Session, table: str, scan_id: int, batches: Iterable[pa.RecordBatch]) -> None:
    """Append the rows of a scan to one of its tables."""
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return
    columns = ["scan_id", *first.schema.names]

    def parts() -> Iterator[bytes]:
        yield _csv(first, scan_id)
        for batch in batches:
            yield _csv(batch, scan_id)

    db.copy_csv(session, table, columns, parts())


def _csv(batch: pa.RecordBatch, scan_id: int) -> bytes:
    """The rows as COPY reads them, with the scan's number in front."""
    columns = [pa.repeat(pa.scalar(scan_id), batch.num_rows)]
    for column in batch.columns:
        columns.append(_hex(column) if pa.types.is_binary(column.type) else column)
    out = io.BytesIO()
    pa.csv.write_csv(
        pa.RecordBatch.from_arrays(columns, names=["scan_id", *batch.schema.names]),
        out,
        pa.csv.WriteOptions(include_header=False),
    )
    return out.getvalue()


def _hex(column: pa.Array) -> pa.Array:
    return pa.array([f"\\x{value.hex()}" for value in column.to_pylist()], pa.string())


def _with_path(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Directory and name joined to the path of the file."""
    joined = [
        os.path.join(path, name)
        for path, name in zip(
            batch.column("path").to_pylist(), batch.column("name").to_pylist(), strict=True
        )
    ]
    index = batch.schema.get_field_index("path")
    return batch.set_column(index, "path", pa.array(joined, pa.binary())).drop_columns("name")
