"""Found rows in an order, whatever their number."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from datamgr.config import Settings
from scanners import scratch
from scanners.find import SCHEMA

_ORDERS = {"size": "size_bytes DESC, path", "age": "{basis}_s, path", "path": "path"}
# How many rows are gathered between two sorts, at least.
_GATHERED_ROWS = 65_536


def sorted_batches(
    settings: Settings,
    batches: Iterator[pa.RecordBatch],
    columns: Sequence[str],
    order: str,
    basis: str,
    limit: int | None,
) -> Iterator[pa.RecordBatch]:
    """The largest first (`size`), the oldest by `basis` (`age`), or by the bytes of the `path`.

    With a small limit, only so many rows are kept; else what does not fit into memory goes to
    scratch files.

    Raises:
        UnavailableError: out of scratch space; and what `batches` raises.
    """
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    by = _ORDERS[order].format(basis=basis)
    if limit is not None and limit <= _GATHERED_ROWS:
        # In the thread that asks: with many searches at once, an engine that read the rows from
        # threads of its own was seen to wait for ever.
        yield from _first(batches, schema, by, limit).to_batches()
        return
    stream = scratch.Stream(batches)
    with scratch.opened(settings) as connection, stream.checked():
        connection.register("found", stream.reader(schema))
        query = f"SELECT * FROM found ORDER BY {by}"
        if limit is not None:
            query += f" LIMIT {limit}"
        yield from connection.execute(query).fetch_record_batch(scratch.BATCH_ROWS)


def _first(batches: Iterator[pa.RecordBatch], schema: pa.Schema, by: str, limit: int) -> pa.Table:
    """The first `limit` rows in the order `by`, holding few more than that."""
    keys = [
        (column, "descending" if falls else "ascending")
        for column, _, falls in (part.partition(" ") for part in by.split(", "))
    ]
    first = schema.empty_table()
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        gathered.append(batch)
        rows += batch.num_rows
        if rows >= _GATHERED_ROWS + limit:
            first, gathered, rows = _sorted(first, gathered, keys, limit), [], 0
    return _sorted(first, gathered, keys, limit)


def _sorted(
    first: pa.Table, more: list[pa.RecordBatch], keys: list[tuple[str, str]], limit: int
) -> pa.Table:
    every = pa.concat_tables([first, pa.Table.from_batches(more, first.schema)])
    return every.sort_by(keys).slice(0, limit).combine_chunks()
