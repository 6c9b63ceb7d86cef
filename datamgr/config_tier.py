"""The settings of tiering: which directories have an archive, and where it is."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from datamgr.config_types import AbsolutePath, Section


class TierSettings(Section):
    """A managed root, a directory whose files have copies in an archive, of any name.

    No command uses it yet.
    """

    root: AbsolutePath = Field(description="The directory, on ext4, xfs or btrfs.")
    archive: AbsolutePath = Field(
        description="The directory of its archive: a second disk, or a mount of another host."
    )
    small_bytes: int = Field(
        8 << 20,
        ge=0,
        le=1 << 30,
        description="Files of up to this size are bundled; larger ones have a container each.",
    )
    bundle_bytes: int = Field(
        1 << 30, ge=1, description="A container of small files is complete at this size."
    )
    bundle_files: int = Field(
        10_000, ge=1, le=1_000_000, description="A container has at most this many files."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if _is_within(self.root, self.archive) or _is_within(self.archive, self.root):
            raise ValueError("root and archive must not lie inside one another")
        return self


def _is_within(path: Path, other: Path) -> bool:
    return path == other or other in path.parents
