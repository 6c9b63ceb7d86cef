"""Opens the store that the settings describe."""

from pathlib import Path

from datamgr.config_tier import HpssArchive, Place, S3Archive, TapeArchive, TierSettings
from datamgr.errors import NotFoundError, UnavailableError
from tiering.archive import hpss
from tiering.archive.mirrored import MirroredStore
from tiering.archive.posix import PosixStore
from tiering.archive.segments import SegmentedStore
from tiering.archive.store import Store
from tiering.archive.tape import Figures, TapeStore
from tiering.archive.zst import ZstdStore


def open_store(tier: TierSettings) -> Store:
    """The archive of a managed root, or both.

    Raises:
        NotFoundError: a directory is not there.
        UnavailableError: it does not answer, or a package is not installed.
    """
    stores: list[Store] = [
        SegmentedStore(_open(place), tier.segment_bytes)
        for place in (tier.archive, tier.second)
        if place is not None
    ]
    # What was compressed before is read also where nothing is compressed any more.
    return ZstdStore(
        stores[0] if len(stores) == 1 else MirroredStore(tuple(stores)), tier.compress_level
    )


def _open(place: Place) -> Store:
    if isinstance(place, S3Archive):
        # What it needs is big, and only here when it was asked for.
        try:
            from tiering.archive import s3
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"{error.name} is not installed; it comes with pip install 'datamgr[s3]'"
            ) from error
        return s3.open_store(place)
    if isinstance(place, HpssArchive):
        return hpss.open_store(place)
    folder = place if isinstance(place, Path) else place.path
    if not folder.is_dir():
        raise NotFoundError(f"the archive {folder} is no directory")
    if isinstance(place, TapeArchive):
        return TapeStore(
            folder, Figures(capacity_bytes=place.capacity_bytes), sleeps=place.real_time
        )
    return PosixStore(folder)
