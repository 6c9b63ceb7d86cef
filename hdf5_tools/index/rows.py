"""What is found as rows: of `--json`, of the API, and as words for tables."""

import math
from typing import Any

from datamgr import display
from hdf5_tools.harvest.records import Form, Value
from hdf5_tools.index.index import Hit, NameSummary

_SHOWN_VALUES = 8


def of_hit(hit: Hit) -> dict[str, Any]:
    """An object that was found; paths are bytes, to be encoded as all rows are."""
    return {
        "file": hit.file,
        "path": hit.path,
        "kind": hit.kind.name.lower(),
        "dtype": hit.form[0],
        "shape": None if hit.form[1] is None else list(hit.form[1]),
        "attributes": {
            display.printable(name): None if values is None else of_values(values)
            for name, values in hit.attributes.items()
        },
    }


def of_name(summary: NameSummary) -> dict[str, Any]:
    """An attribute's name with what is known of it."""
    example = summary.example
    return {
        "name": display.printable(summary.name),
        "attributes": summary.attributes,
        "smallest": None if summary.smallest is None else _value(summary.smallest),
        "largest": None if summary.largest is None else _value(summary.largest),
        "texts": summary.texts,
        "example": None if example is None else display.printable(example),
    }


def of_values(values: tuple[Value, ...]) -> list[Any]:
    """Values of JSON: texts safe to show, `NaN` and `Infinity` as texts too."""
    return [_value(value) for value in values]


def _value(value: Value) -> int | float | str:
    if isinstance(value, bytes):
        return display.printable(value)
    if isinstance(value, int) or math.isfinite(value):
        return value
    # JSON has no such numbers.
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def shown(values: list[Any]) -> str:
    """Values in a line, the first few of many."""
    more = f", … {len(values)} in all" if len(values) > _SHOWN_VALUES else ""
    return ", ".join(str(value) for value in values[:_SHOWN_VALUES]) + more


def form(of: Form) -> str:
    """Type and shape in words: `float32 (3, 4)`."""
    kind, shape = of
    return kind if shape is None or shape == () else f"{kind} ({', '.join(map(str, shape))})"
