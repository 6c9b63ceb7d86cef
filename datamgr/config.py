"""What is configured: one frozen model, read from `datamgr.toml` and the environment."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from datamgr import config_file
from datamgr.config_file import ENVIRONMENT_PREFIX, TIER_SOCKET, default_state_dir
from datamgr.config_hdf5 import Hdf5Settings
from datamgr.config_nightly import AlertSettings, NightlySettings
from datamgr.config_pitoolbox import PitoolboxSettings
from datamgr.config_tier import TieringSettings, TierSettings
from datamgr.config_types import AbsolutePath, Seconds, Section
from datamgr.config_web import OidcSettings, WebSettings
from datamgr.errors import InvalidError


class DatabaseSettings(Section):
    """Where the tables are."""

    url: str = Field(
        "embedded",
        description="`embedded` starts PostgreSQL under `state_dir`; anything else is a "
        "SQLAlchemy URL such as `postgresql://datamgr@db.example.org/datamgr`.",
    )
    connect_timeout_s: int = Field(
        10, ge=1, description="How long to wait for the database to answer, in seconds."
    )


class ScanSettings(Section):
    """How file systems are walked and what is kept of them."""

    store_dir: AbsolutePath | None = Field(
        None, description="Where scans are kept as Parquet; default `<state_dir>/scans`."
    )
    workers: int = Field(
        0, ge=0, le=256, description="Walking processes; 0 means one per usable core, at most 8."
    )
    max_depth: int = Field(
        1000,
        ge=1,
        description="Directories deeper than this are named in the errors and not entered: "
        "the cost of a chain grows with the square of its depth.",
    )
    keep_scans: int = Field(
        8, ge=2, description="Published scans kept per file system, with their Parquet files."
    )
    top_files: int = Field(
        100, ge=1, le=10_000, description="Biggest files kept per project and user."
    )
    engine_memory: str | None = Field(
        None, description="Memory limit of a roll-up, such as `4GB`; default the engine's own."
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb",
        description="`duckdb` works in the scanning process; `spark` walks and rolls up on "
        "`spark_master`, with the same results.",
    )
    spark_master: str = Field(
        "local[*]",
        min_length=1,
        description="Where Spark runs: `local[*]` on this machine's cores, "
        "`spark://host:7077`, `yarn`, `k8s://…`. See docs/howto/spark.md.",
    )
    spark_conf: dict[str, str] = Field(
        default_factory=dict,
        description="Spark's own settings, passed on as they are, such as "
        '`{ "spark.executor.memory" = "8g" }`.',
    )


class TaskSettings(Section):
    """The queue of long work."""

    heartbeat_s: Seconds = Field(
        1.0, gt=0, description="How often a worker says that it is alive, in seconds."
    )
    lease_s: Seconds = Field(
        15.0,
        gt=0,
        description="A task whose worker is gone and was silent this long is taken over.",
    )


class IdentitySettings(Section):
    """Who counts as staff."""

    staff_users: tuple[str, ...] = Field((), description="Accounts that are staff.")
    staff_groups: tuple[str, ...] = Field((), description="Unix groups whose members are staff.")


class UpSettings(Section):
    """What `datamgr up` runs."""

    services: tuple[str, ...] = Field(
        ("web", "worker"),
        description="Services that `datamgr up` starts, in this order; `perms-worker` and "
        "`perms-lister` are for permission requests, `tier-daemon` for managed roots.",
    )


class Settings(BaseSettings):
    """Everything that can be configured; each value has a default that works on one machine."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    state_dir: AbsolutePath = Field(
        default_factory=default_state_dir,
        description="Everything datamgr writes is under this directory; default "
        "`/var/lib/datamgr` for root, else `~/.local/state/datamgr`.",
    )
    database: DatabaseSettings = DatabaseSettings()
    scan: ScanSettings = ScanSettings()
    web: WebSettings = WebSettings()
    oidc: OidcSettings = OidcSettings()
    tasks: TaskSettings = TaskSettings()
    identity: IdentitySettings = IdentitySettings()
    nightly: NightlySettings = NightlySettings()
    alerts: AlertSettings = AlertSettings()
    pitoolbox: PitoolboxSettings = PitoolboxSettings()
    hdf5: Hdf5Settings = Hdf5Settings()
    tier: dict[str, TierSettings] = Field(
        default_factory=dict, description="Managed roots by name, see `[tier.NAME]`."
    )
    tiering: TieringSettings = TieringSettings()
    up: UpSettings = UpSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which is handed in as init values."""
        return env_settings, init_settings

    @property
    def scan_store_dir(self) -> Path:
        """Where scans are kept as Parquet."""
        return self.scan.store_dir or self.state_dir / "scans"

    @property
    def lister_socket(self) -> Path:
        """Where the lister of directories answers."""
        return self.pitoolbox.lister_socket or self.state_dir / "perms-lister.sock"

    @property
    def tier_socket(self) -> Path:
        """Where the daemon of managed roots answers."""
        return self.tiering.socket or self.state_dir / TIER_SOCKET


def load(explicit: str | None = None) -> Settings:
    """Read the settings once; called by the entry points only.

    Raises:
        NotFoundError: a file named explicitly is not there.
        InvalidError: no TOML, an unknown key or a value out of range.
    """
    path = config_file.find_config(explicit)
    values = config_file.read(path)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise InvalidError(_explain(error, path)) from error


def _explain(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    source = (
        f"{path} or {ENVIRONMENT_PREFIX}*" if path else f"the {ENVIRONMENT_PREFIX}* environment"
    )
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r} in {source}; `datamgr config show` lists the known ones"
    return f"setting {key!r} in {source}: {first['msg'].removeprefix('Value error, ')}"
