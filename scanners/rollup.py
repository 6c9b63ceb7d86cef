"""From the rows of a scan to the totals that answer questions, as ibis expressions.

Written once for every engine. Rows are first grouped by directory and the directories are then
spread over their ancestors, which is several times cheaper than spreading files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import ibis
import pyarrow as pa
from ibis.expr import types as ir

from datamgr import units
from scanners import access, ages
from scanners.engines import Engine

NO_PROJECT = 0

# Hard links are counted once, at their smallest path; `_all_` counts every link.
TOTALS = (
    "files",
    "directories",
    "size_bytes",
    "alloc_bytes",
    "files_all_links",
    "size_all_bytes",
    "alloc_all_bytes",
)


@dataclass(frozen=True)
class ScanProject:
    """A project in a scan: the tree below `path`, except the trees of projects inside it."""

    number: int
    name: str
    path: bytes | None
    project_id: int | None = None


class Rollup:
    """The roll-ups of one scan.

    `projects` must have an entry for every root of the scan, so that each directory belongs to
    exactly one number: that of its nearest ancestor named here.
    """

    def __init__(
        self,
        engine: Engine,
        dirs: ir.Table,
        entries: ir.Table,
        projects: Sequence[ScanProject],
        as_of_s: int,
    ) -> None:
        self._engine = engine
        self._dirs = dirs
        self._entries = entries
        self._projects = projects
        self._as_of_s = as_of_s

    def batches(self, expression: ir.Table) -> Iterator[pa.RecordBatch]:
        """The rows of one of the roll-ups below."""
        return self._engine.batches(expression)

    @cached_property
    def _spread(self) -> ir.Table:
        """(dir_id, ancestor_id): every directory once for itself and each directory above."""
        return self._dirs.select("dir_id", ancestor_id=self._dirs.ancestors.unnest())

    @cached_property
    def _project_of(self) -> ir.Table:
        """(dir_id, project_number): the project of the nearest ancestor that is a project's."""
        rows = pa.table(
            {
                "project_number": pa.array([p.number for p in self._projects], pa.int64()),
                "path": pa.array([p.path for p in self._projects], pa.binary()),
            }
        )
        given = self._engine.table(rows)
        tops = self._dirs.join(given, "path").select(
            "project_number", ancestor_id="dir_id", top_depth="depth"
        )
        found = (
            self._spread.join(tops, "ancestor_id")
            .group_by("dir_id")
            .agg(project_number=lambda t: t.project_number.argmax(t.top_depth))
        )
        return self._engine.keep(found)

    @cached_property
    def rules(self) -> access.Rules:
        """What is asked of who wants to list directories; their `access_id` is its number."""
        pairs = self._dirs.join(self._project_of, "dir_id").select("access", "project_number")
        found = {
            (row["access"], row["project_number"])
            for batch in self._engine.batches(pairs.filter(pairs.access.notnull()).distinct())
            for row in batch.to_pylist()
        }
        levels: dict[int, int] = {}
        for project in self._projects:
            top = access.level(project.path or b"/")
            levels[project.number] = min(top, levels.get(project.number, top))
        return access.rules(found, levels)

    @cached_property
    def _access_ids(self) -> ir.Table:
        """(access, project_number, access_id)"""
        numbers = self.rules.number_of
        rows = {
            "access": pa.array([text for text, _ in numbers], pa.string()),
            "project_number": pa.array([project for _, project in numbers], pa.int64()),
            "access_id": pa.array(list(numbers.values()), pa.int64()),
        }
        return self._engine.table(pa.table(rows))

    @cached_property
    def _further_links(self) -> ir.Table:
        """Entries of inodes that have a smaller (directory, name) in this scan."""
        # Of imported entries 0 means that their links were not counted.
        linked = self._entries.filter(self._entries.nlink != 1)
        placed = linked.join(self._dirs.select("dir_id", "path"), "dir_id")
        order = ibis.window(group_by=["dev", "ino"], order_by=["path", "name"])
        ranked = placed.mutate(rank=ibis.row_number().over(order))
        return self._engine.keep(ranked.filter(ranked.rank > 0).drop("rank", "path"))

    @cached_property
    def _signed(self) -> ir.Table:
        """Entries with sign 1, and the further links once more with -1 to take them out again."""
        columns = [
            "dir_id", "uid", "gid", "size_bytes", "alloc_bytes", "atime_s", "mtime_s", "ctime_s",
        ]  # fmt: skip
        once = self._entries.select(*columns, sign=ibis.literal(1, "int64"))
        again = self._further_links.select(*columns, sign=ibis.literal(-1, "int64"))
        return once.union(again)

    @cached_property
    def _cube(self) -> ir.Table:
        """Totals by project, owner, ages and size class: small, and the source of the rest.

        A size class is a power of two of allocated bytes; `least_bytes` the smallest file in it.
        """
        rows = self._signed.join(self._project_of, "dir_id")
        classes = {f"{basis}_bin": self._bin(rows[f"{basis}_s"]) for basis in ages.BASES}
        classes["size_class"] = (rows.alloc_bytes + 1).log2().floor().cast("int64")
        classed = rows.mutate(**classes)
        grouped = classed.group_by("project_number", "uid", "gid", *classes).agg(
            **_totals(classed), least_bytes=classed.alloc_bytes.min()
        )
        return self._engine.keep(grouped)

    def usage(self) -> ir.Table:
        """Totals by project, user and group, directories included."""
        files = self._cube.mutate(directories=ibis.literal(0, "int64"))
        dirs = self._dirs.join(self._project_of, "dir_id").mutate(
            files=ibis.literal(0, "int64"),
            files_all_links=ibis.literal(0, "int64"),
            size_bytes=ibis.literal(0, "int64"),
            size_all_bytes=ibis.literal(0, "int64"),
            alloc_all_bytes="alloc_bytes",
            directories=ibis.literal(1, "int64"),
        )
        names = ["project_number", "uid", "gid", *TOTALS]
        both = files.select(names).union(dirs.select(names))
        return both.group_by("project_number", "uid", "gid").agg(
            **{name: _sum(both[name]) for name in TOTALS}
        )

    def directories(self) -> ir.Table:
        """Every directory with the totals of all below it, itself included."""
        rows = self._signed
        own = rows.group_by("dir_id").agg(
            **_totals(rows),
            **{f"newest_{basis}_s": rows[f"{basis}_s"].max() for basis in ages.BASES},
        )
        itself = self._dirs.select("dir_id", own_alloc="alloc_bytes")
        joined = itself.left_join(own, "dir_id")
        zero = ibis.literal(0, "int64")
        each = self._engine.keep(
            joined.select(
                "dir_id",
                files=ibis.coalesce(joined.files, zero),
                files_all_links=ibis.coalesce(joined.files_all_links, zero),
                size_bytes=ibis.coalesce(joined.size_bytes, zero),
                size_all_bytes=ibis.coalesce(joined.size_all_bytes, zero),
                alloc_bytes=ibis.coalesce(joined.alloc_bytes, zero) + joined.own_alloc,
                alloc_all_bytes=ibis.coalesce(joined.alloc_all_bytes, zero) + joined.own_alloc,
                directories=ibis.literal(1, "int64"),
                **{f"newest_{b}_s": joined[f"newest_{b}_s"] for b in ages.BASES},
            )
        )
        spread = self._spread.join(each, "dir_id")
        recursive = spread.group_by("ancestor_id").agg(
            **{name: _sum(spread[name]) for name in TOTALS},
            **{f"newest_{b}_s": spread[f"newest_{b}_s"].max() for b in ages.BASES},
        )
        placed = self._dirs.join(self._project_of, "dir_id")
        described = placed.left_join(self._access_ids, ["access", "project_number"]).select(
            "dir_id", "parent_id", "project_number", "depth", "path", "mode", "uid", "gid",
            "mtime_s", "error", "access_id",
        )  # fmt: skip
        return described.join(recursive, described.dir_id == recursive.ancestor_id).drop(
            "ancestor_id"
        )

    def ages(self) -> ir.Table:
        """Files by age, for each basis in `ages.BASES`."""
        names = ["files", "size_bytes", "alloc_bytes"]
        per_basis = [
            self._cube.group_by("project_number", "uid", bin=self._cube[f"{basis}_bin"])
            .agg(**{name: _sum(self._cube[name]) for name in names})
            .select("project_number", "uid", "bin", *names, basis=ibis.literal(basis))
            for basis in ages.BASES
        ]
        return ibis.union(*per_basis)

    def top_files(self, number: int) -> ir.Table:
        """The `number` biggest files of each project and owner, by allocated bytes.

        The size classes tell how big a file must be at least; only those few are ranked.
        """
        group = ["project_number", "uid"]
        counted = self._cube.group_by(*group, "size_class").agg(
            files=lambda t: t.files.sum(), least_bytes=lambda t: t.least_bytes.min()
        )
        larger = ibis.cumulative_window(group_by=group, order_by=ibis.desc("size_class"))
        running = counted.mutate(before=counted.files.sum().over(larger) - counted.files)
        limits = (
            running.filter(running.before < number)
            .group_by(*group)
            .agg(least_bytes=lambda t: t.least_bytes.min())
        )
        candidates = (
            self._entries.join(self._project_of, "dir_id")
            .join(limits, group)
            .filter(lambda t: t.alloc_bytes >= t.least_bytes)
            .anti_join(self._further_links.select("dir_id", "name"), ["dir_id", "name"])
        )
        pathed = candidates.join(self._dirs.select("dir_id", "path", "access"), "dir_id")
        best = ibis.window(group_by=group, order_by=[ibis.desc("alloc_bytes"), "path", "name"])
        ranked = pathed.mutate(rank=ibis.row_number().over(best))
        found = ranked.filter(ranked.rank < number)
        return found.left_join(self._access_ids, ["access", "project_number"]).select(
            "project_number", "uid", "gid", "path", "name", "size_bytes", "alloc_bytes", "nlink",
            "atime_s", "mtime_s", "ctime_s", "access_id",
        )  # fmt: skip

    def _bin(self, time_s: ir.Column) -> ir.Column:
        """Index of the age bin of a time."""
        age = self._as_of_s - time_s
        cases = [(age < b.below_s, i) for i, b in enumerate(ages.BINS) if b.below_s is not None]
        return ibis.cases(*cases, else_=len(ages.BINS) - 1).cast("int64")


def _totals(rows: ir.Table) -> dict[str, ir.Value]:
    """Sums over signed entries: hard links counted once, and all of them."""
    present = rows.sign > 0
    return {
        "files": _sum(rows.sign),
        "size_bytes": _sum(rows.sign * rows.size_bytes),
        "alloc_bytes": _sum(rows.sign * rows.alloc_bytes),
        "files_all_links": _sum(present),
        "size_all_bytes": _sum(rows.size_bytes, where=present),
        "alloc_all_bytes": _sum(rows.alloc_bytes, where=present),
    }


def _sum(column: ir.Column, where: ir.Column | None = None) -> ir.Value:
    """A total that ends at the largest bigint, which anybody's sparse files may reach.

    DuckDB adds up with 128 bits.
    """
    return ibis.least(column.sum(where=where), units.MAX_BIGINT).cast("int64")
