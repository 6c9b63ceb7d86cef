"""Found rows in an order, whatever their number."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from datamgr.config import Settings
from scanners import scratch
from scanners.find import SCHEMA

_ORDERS = {"size": "size_bytes DESC, path", "age": "{basis}_s, path", "path": "path"}


def sorted_batches(
    settings: Settings,
    batches: Iterator[pa.RecordBatch],
    columns: Sequence[str],
    order: str,
    basis: str,
    limit: int | None,
) -> Iterator[pa.RecordBatch]:
    """The largest first (`size`), the oldest by `basis` (`age`), or by the bytes of the `path`.

    With a limit, only so many rows are kept; without one, what does not fit into memory goes to
    scratch files.

    Raises:
        UnavailableError: out of scratch space; and what `batches` raises.
    """
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    stream = scratch.Stream(batches)
    query = f"SELECT * FROM found ORDER BY {_ORDERS[order].format(basis=basis)}"
    if limit is not None:
        query += f" LIMIT {int(limit)}"
    with scratch.opened(settings) as connection, stream.checked():
        connection.register("found", stream.reader(schema))
        yield from connection.execute(query).fetch_record_batch(scratch.BATCH_ROWS)
