"""The settings of tiering: which directories have an archive, and where it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from datamgr.config_file import absolute
from datamgr.config_types import AbsolutePath, Seconds, Section


class S3Archive(Section):
    """An archive in an S3 bucket; in place of a directory. Credentials are those of the AWS tools:
    the environment or `~/.aws` of the account that runs the daemon."""

    kind: Literal["s3"] = Field("s3", description="`s3`, which need not be said.")
    bucket: str = Field(min_length=3, description="The bucket, which has to exist.")
    endpoint: str | None = Field(
        None,
        description="The address of the service, such as `https://s3.example.org`; default AWS.",
    )
    prefix: str = Field("", description="What the names of all objects begin with, as `beamline/`.")
    region: str | None = Field(None, description="The region, where the service asks for one.")
    profile: str | None = Field(None, description="The profile in `~/.aws`, if not the default.")


class TapeArchive(Section):
    """A model of a tape library over a directory, to try out and to measure; in place of one. It
    tells what an LTO-9 drive would take, and keeps the objects in the directory as plain files."""

    kind: Literal["tape"] = Field(description="`tape`.")
    path: AbsolutePath = Field(description="The directory.")
    capacity_bytes: int = Field(18 * 10**12, ge=1, description="How much a volume holds.")
    real_time: bool = Field(
        False, description="Whether to take the time that the drive would take; else it is logged."
    )


class HpssArchive(Section):
    """An archive in HPSS, by its client `hsi`, which has to log in without being asked anything; in
    place of a directory. Containers are files there, and pass through a directory of this host."""

    kind: Literal["hpss"] = Field(description="`hpss`.")
    path: str = Field(
        pattern=r"^/[A-Za-z0-9_./+-]*[A-Za-z0-9_+-]$",
        description="The directory in HPSS, which has to exist.",
    )
    spool: AbsolutePath = Field(
        description="A directory of its own on this host, where containers are while they are "
        "written, and some that were read."
    )
    spool_bytes: int = Field(
        100 << 30, ge=0, description="How much of what was read stays there to be read on."
    )
    program: str = Field("hsi", description="The client, if it is not on the PATH.")
    options: tuple[str, ...] = Field(
        (), description='Its options, as `["-A", "keytab", "-k", "/etc/hpss.keytab", "-l", "arc"]`.'
    )
    timeout_s: Seconds = Field(
        21_600, gt=0, description="How long one command may take; reading may wait for a tape."
    )


_KINDS: Mapping[str, type[Section]] = {"s3": S3Archive, "tape": TapeArchive, "hpss": HpssArchive}
Place = Path | S3Archive | TapeArchive | HpssArchive


def _place(value: object) -> object:
    if not isinstance(value, Mapping):
        return value if isinstance(value, tuple(_KINDS.values())) else absolute(value)
    kind = value.get("kind", "s3")
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}")
    return _KINDS[kind].model_validate(value)


Archive = Annotated[Place, BeforeValidator(_place)]


class PolicySettings(Section):
    """Which files of a managed root are to be put or punched. `datamgr policy` and the pages show
    what that would be now; nothing is done by itself."""

    action: Literal["put", "punch"] = Field(
        description="`put`, of what the archive does not have; `punch`, of what it has."
    )
    older_than_s: Seconds = Field(
        90 * 86_400, ge=0, description="Only files whose time is so long ago: `90d`, `1y`."
    )
    basis: Literal["atime", "mtime", "ctime"] = Field(
        "atime", description="Which time: of the last reading, of the content, of any change."
    )
    larger_than_bytes: int = Field(0, ge=0, description="Only files larger than this.")
    project: str | None = Field(None, description="Only files of this project.")
    paths: tuple[str, ...] = Field(
        (), description="Only files below these directories of the root; default all of it."
    )
    free_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Of a punch: the oldest first, and no more than lets so much of the disk be "
        "free, such as 0.2; default all that fit.",
    )

    @model_validator(mode="after")
    def _plain(self) -> Self:
        parts = [path.split("/") for path in self.paths]
        for place in parts:
            if any(name in ("", ".", "..") for name in place):
                raise ValueError("paths are relative to the root, such as `runs/2025`")
            if any(place[: len(other)] == other for other in parts if other is not place):
                raise ValueError("paths must not lie inside one another")
        if self.free_share is not None and self.action != "punch":
            raise ValueError("free_share is of a punch")
        return self


class TierSettings(Section):
    """A managed root, a directory whose files have copies in an archive, of any name."""

    root: AbsolutePath = Field(description="The directory, on ext4, xfs or btrfs.")
    archive: Archive = Field(
        description="Its archive: a directory (a second disk, or a mount of another host), or a "
        "table `[tier.NAME.archive]` of a `kind`: `s3`, `hpss` or `tape`."
    )
    second: Archive | None = Field(
        None,
        description="A second archive, elsewhere, that gets a copy of everything; what is damaged "
        "in one is repaired from the other by `datamgr tier scrub --repair`.",
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

    segment_bytes: int = Field(
        64 << 30,
        ge=1 << 20,
        multiple_of=1 << 20,
        description="A container larger than this is stored as several objects, so that a file may "
        "be larger than a tape or what an object store takes; a multiple of 1 MiB.",
    )
    compress: Literal["none", "zstd"] = Field(
        "none",
        description="`zstd` compresses new containers, which `tar --zstd -xf` restores; sizes of "
        "containers are told as before that.",
    )
    compress_level: int = Field(3, ge=1, le=19, description="How hard it tries.")

    punch_retry_s: Seconds = Field(
        0,
        ge=0,
        description="How long a request tries again to free files that somebody has open: `10m`; "
        "it keeps one of `tiering.workers` meanwhile. 0 is not at all.",
    )

    trash_days: float = Field(
        30, ge=0, description="How long the copy of a removed file is kept for `ghi undelete`."
    )
    versions: int = Field(
        2,
        ge=1,
        le=1000,
        description="How many versions of a file the archive keeps, the newest among them.",
    )

    requests_days: float = Field(
        90,
        ge=0,
        description="How long requests that have ended, and the steps that they made, are kept for "
        "`ghi status`.",
    )

    repack_below: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A container of which less than this share is needed is rewritten; 0 is never.",
    )

    scrub_days: float = Field(
        90,
        ge=0,
        description="The daemon reads every container again after so many days, and repairs it "
        "from `second`; 0 is never.",
    )
    scrub_bytes_per_s: int = Field(
        100 << 20, ge=1, description="How fast it reads for that, at most."
    )

    policy: dict[str, PolicySettings] = Field(
        default_factory=dict, description="Policies by name, see `[tier.NAME.policy.NAME]`."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        places = [
            local
            for place in (self.root, self.archive, self.second)
            if (local := _on_this_host(place)) is not None
        ]
        for place in places:
            if any(_is_within(place, other) for other in places if other is not place):
                raise ValueError("root, archive and second must not lie inside one another")
        return self


class TieringSettings(Section):
    """The daemon that works on managed roots."""

    socket: AbsolutePath | None = Field(
        None,
        description="Where `datamgr tier daemon` answers the `ghi` commands of all accounts; "
        "default `tier.sock` in `state_dir`. Name a directory that everybody can enter.",
    )
    workers: int = Field(
        2, ge=1, le=64, description="Requests that are carried out at the same time."
    )


def _on_this_host(place: Place | None) -> Path | None:
    """The directory of an archive that has one here."""
    if isinstance(place, HpssArchive):
        return place.spool
    return (
        place.path if isinstance(place, TapeArchive) else place if isinstance(place, Path) else None
    )


def _is_within(path: Path, other: Path) -> bool:
    return path == other or other in path.parents
