"""Numbers with units: what a query's number is in the units that files name.

pint is imported when a query names a unit; its registry takes most of a second to make.
"""

import functools
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from datamgr.errors import InvalidError, UnavailableError

if TYPE_CHECKING:
    import pint

# What files call a unit may be anything. Numbers stand as short exponents only, so that none
# takes long to work out.
_SANE = re.compile(r"(?:[^\W\d_]|[ _*/^().°%Ωµ-]|(?<!\d)\d{1,2}(?!\d)){1,64}")
_TOWER = re.compile(r"\d[\s)]*(?:\*\*|\^)")


def require(unit: str) -> None:
    """Raise unless it is known.

    Raises:
        InvalidError: it is not.
        UnavailableError: pint is not installed.
    """
    if _parsed(unit) is None:
        raise InvalidError(f"there is no unit {unit!r}; ask for example exposure > 500 ms")


@functools.lru_cache(4096)
def converted(number: Decimal, unit: str, other: str) -> Decimal | None:
    """A number of a unit in another; None if that is unknown or of another dimension."""
    known, wanted = _parsed(unit), _parsed(other)
    if known is None or wanted is None:
        return None
    import pint

    try:
        found: Any = _registry().Quantity(number, known).to(wanted).magnitude
    except (pint.PintError, ArithmeticError, ValueError, TypeError):
        return None
    return Decimal(found)


@functools.lru_cache(4096)
def _parsed(unit: str) -> "pint.Unit | None":
    registry = _registry()
    if not _SANE.fullmatch(unit) or _TOWER.search(unit):
        return None
    try:
        return registry.parse_units(unit)
    except Exception:  # noqa: BLE001  of many kinds, for text that no person meant as a unit
        return None


@functools.cache
def _registry() -> "pint.UnitRegistry[Any]":
    try:
        import pint
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"{error.name} is not installed; it comes with pip install 'datamgr[hdf5]'"
        ) from error
    # In decimal, 0.1 s is 100 ms and not a little more.
    return pint.UnitRegistry(non_int_type=Decimal)
