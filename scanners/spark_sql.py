"""Roll-up expressions as Spark SQL.

Only ibis' compiler is used: its PySpark backend needs pandas and an older pyspark.
"""

import re
from pathlib import Path

import sqlglot
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.pyspark import compiler
from ibis.expr import types as ir


def compiled(expression: ir.Table) -> str:
    """The query of an expression over named tables."""
    query = compiler.to_sqlglot(expression.unbind()).transform(_exact_sum)
    return str(query.sql("spark"))


def hadoop_path(path: str | Path) -> str:
    """A path as Spark takes it: of a mounted file system, and no pattern."""
    return "file://" + re.sub(r"([\\{}\[\]*?,])", r"\\\1", str(path))


def _exact_sum(node: sge.Expression) -> sge.Expression:
    """Sums of any size, as DuckDB's; Spark's own fail beyond 64 bits, in decimals they are slow.

    High and low halves are added up apart and put together as one decimal.
    """
    if not isinstance(node, sge.Sum) or isinstance(node.parent, sge.Window):
        return node
    halves = "CAST(SUM(SHIFTRIGHT(_, 32)) AS DECIMAL(38)) * 4294967296 + SUM(_ & 4294967295)"
    number = sge.Cast(this=node.this, to=sge.DataType.build("bigint"))
    return sqlglot.parse_one(f"({halves})", dialect="spark").transform(
        lambda part: number.copy() if part.name == "_" and isinstance(part, sge.Column) else part
    )
