"""What is configured: one frozen model, read from `datamgr.toml` and the environment."""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from datamgr.config_nightly import AlertSettings, NightlySettings
from datamgr.config_pitoolbox import PitoolboxSettings
from datamgr.config_tier import TierSettings
from datamgr.config_types import AbsolutePath, Seconds, Section, absolute
from datamgr.errors import InvalidError, NotFoundError

ENVIRONMENT_PREFIX = "DATAMGR_"
SYSTEM_CONFIG = Path("/etc/datamgr/datamgr.toml")


def default_state_dir() -> Path:
    """`/var/lib/datamgr` for root, else `$XDG_STATE_HOME/datamgr`.

    Source: FHS 3.0 section 5.8; XDG Base Directory Specification 0.8.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/datamgr")
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return absolute(base) / "datamgr"


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


class WebSettings(Section):
    """The web pages and the API."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8765, ge=0, le=65535, description="Port to listen on; 0 means any that is free."
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
        "`perms-lister` are for permission requests.",
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
    tasks: TaskSettings = TaskSettings()
    identity: IdentitySettings = IdentitySettings()
    nightly: NightlySettings = NightlySettings()
    alerts: AlertSettings = AlertSettings()
    pitoolbox: PitoolboxSettings = PitoolboxSettings()
    tier: dict[str, TierSettings] = Field(
        default_factory=dict, description="Managed roots by name, see `[tier.NAME]`."
    )
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


def find_config(explicit: str | None) -> Path | None:
    """The configuration file in force: `--config`, `DATAMGR_CONFIG`, the user's, the system's.

    Raises:
        NotFoundError: a file named explicitly is not there.
        InvalidError: it may not be looked at.
    """
    named = explicit or os.environ.get("DATAMGR_CONFIG")
    if named:
        path = absolute(named)
        try:
            found = path.is_file()
        except OSError as error:
            raise InvalidError(f"{path} cannot be read: {error.strerror}") from error
        if not found:
            raise NotFoundError(f"the configuration file {path} does not exist")
        return path
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    for path in (absolute(base) / "datamgr" / "datamgr.toml", SYSTEM_CONFIG):
        if _is_file(path):
            return path
    return None


def _is_file(path: Path) -> bool:
    """Whether it is; a place that may not be looked at, as somebody else's home, has none."""
    try:
        return path.is_file()
    except OSError:
        return False


def load(explicit: str | None = None) -> Settings:
    """Read the settings once; called by the entry points only.

    Raises:
        NotFoundError: a file named explicitly is not there.
        InvalidError: no TOML, an unknown key or a value out of range.
    """
    path = find_config(explicit)
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidError(f"{path} is no valid TOML: {error}") from error
        except OSError as error:
            raise InvalidError(f"{path} cannot be read: {error.strerror}") from error
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
