"""The indexes that the configuration names: who may search which, each opened once."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from datamgr import identity
from datamgr.config_hdf5 import Hdf5IndexSettings
from datamgr.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from datamgr.identity import Caller

if TYPE_CHECKING:
    from hdf5_tools.index.index import Index

Stamp = tuple[int, int, int]


class Published:
    """Indexes by name. An index that was updated is opened again at the next question."""

    def __init__(self, settings: Mapping[str, Hdf5IndexSettings]) -> None:
        self._settings = settings
        self._opened: dict[str, tuple[Stamp, Index]] = {}

    def names(self, caller: Caller) -> list[str]:
        """Those that the caller may search."""
        return [name for name, of in self._settings.items() if _may_search(caller, of)]

    def index(self, caller: Caller, name: str) -> "Index":
        """An index as it is now.

        Raises:
            NotFoundError: there is none of this name that the caller may search.
            UnavailableError: it cannot be read, or what reads it is not installed.
        """
        settings = self._settings.get(name)
        # To who may not search it there is no difference.
        if settings is None or not _may_search(caller, settings):
            raise NotFoundError(f"there is no index {name!r} that you may search")
        try:
            from hdf5_tools.index import manifest
            from hdf5_tools.index.index import Index
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"{error.name} is not installed; it comes with pip install 'datamgr[hdf5]'"
            ) from error
        try:
            status = (settings.path / manifest.NAME).stat()
            stamp = status.st_mtime_ns, status.st_ino, status.st_size
            known = self._opened.get(name)
            if known is None or known[0] != stamp:
                known = self._opened[name] = stamp, Index.open(settings.path)
        except (OSError, NotFoundError, InvalidError, ForbiddenError) as error:
            raise UnavailableError(f"the index {name!r} cannot be read at the moment") from error
        return known[1]


def _may_search(caller: Caller, settings: Hdf5IndexSettings) -> bool:
    if caller.is_staff:
        return True
    for group in settings.readers:
        with suppress(NotFoundError):
            if identity.gid_of(group) in caller.gids:
                return True
    return False
