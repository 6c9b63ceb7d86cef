"""The formats of lists by their names."""

from collections.abc import Callable

from datamgr.errors import InvalidError
from scanners.importers.format import ListFormat

NAMES = ("gpfs-list", "lester", "lfs-find", "gufi-trace", "csv")


def by_name(name: str, columns: str | None = None) -> ListFormat:
    """The format of this name; `columns` are its fields where the site chooses them.

    Raises:
        InvalidError: there is none, or its columns are unknown, incomplete or not to be chosen.
    """
    from scanners.importers import delimited, gpfs, gufi, lester, lfs_find

    chosen: dict[str, Callable[[str | None], ListFormat]] = {
        "gpfs-list": gpfs.GpfsList,
        "csv": delimited.Delimited,
    }
    fixed: dict[str, Callable[[], ListFormat]] = {
        "lester": lester.Lester,
        "lfs-find": lfs_find.LfsFind,
        "gufi-trace": gufi.GufiTrace,
    }
    if name in chosen:
        return chosen[name](columns)
    if name not in fixed:
        raise InvalidError(f"there is no format {name!r}; there are {', '.join(NAMES)}")
    if columns is not None:
        raise InvalidError(f"the fields of {name} are fixed; --columns is for gpfs-list and csv")
    return fixed[name]()
