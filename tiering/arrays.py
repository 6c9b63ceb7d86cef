"""Arrays as one text for PostgreSQL: driver and parser make less of that than of lists.

Source: PostgreSQL manual, "Array Value Input" and "bytea Hex Format".
"""

from collections.abc import Iterable


def numbers(values: Iterable[int]) -> str:
    """For a cast to an array of numbers."""
    return "{" + ",".join(map(str, values)) + "}"


def strings(values: Iterable[bytes]) -> str:
    """For a cast to `bytea[]`."""
    return "{" + ",".join(f'"\\\\x{value.hex()}"' for value in values) + "}"
