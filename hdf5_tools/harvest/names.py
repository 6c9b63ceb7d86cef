"""What types are called; both harvesters call them alike, without byte order or padding."""

from collections.abc import Iterable


def integer(size: int, signed: bool) -> str:
    """`int32`, `uint8`, …; `size` in bytes."""
    return f"{'' if signed else 'u'}int{8 * size}"


def floating(size: int) -> str:
    """`float64`, …; `size` in bytes."""
    return f"float{8 * size}"


def bitfield(size: int) -> str:
    """`bitfield8`, …; `size` in bytes."""
    return f"bitfield{8 * size}"


def compound(fields: Iterable[tuple[bytes, str]]) -> str:
    """`compound{x: float64, y: float64}`."""
    shown = ", ".join(f"{name.decode(errors='replace')}: {text}" for name, text in fields)
    return f"compound{{{shown}}}"


def array(base: str, shape: Iterable[int]) -> str:
    """`float64[3,2]`."""
    return f"{base}[{','.join(map(str, shape))}]"


def sequence(base: str) -> str:
    """`vlen<int32>`."""
    return f"vlen<{base}>"


STRING = "string"
ENUM = "enum"
BOOL = "bool"
OPAQUE = "opaque"
REFERENCE = "reference"
REGION = "region"
TIME = "time"
OTHER = "other"
