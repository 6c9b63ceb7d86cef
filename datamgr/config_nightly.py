"""The settings of what runs every night: file systems, history, alerts."""

from pydantic import Field, SecretStr, model_validator

from datamgr.config_types import AbsolutePath, EmailAddress, Seconds, Section


class NightlyFileSystem(Section):
    """One file system of `datamgr nightly`: paths to scan, or lists to import."""

    name: str = Field(description="Name of the file system, such as `cfs`.")
    paths: tuple[AbsolutePath, ...] = Field(
        (), description="Directories to scan; with `import`, the roots that the list is of."
    )
    import_: tuple[AbsolutePath, ...] = Field(
        (),
        alias="import",
        description="Files of a list to import in place of a walk; see docs/howto/nightly.md.",
    )
    from_: str | None = Field(
        None, alias="from", description="Format of the list, as `datamgr scan import --from`."
    )
    columns: str | None = Field(
        None, description="Fields of the list, as `datamgr scan import --columns`."
    )
    prefix: str = Field("", description="Put in front of the list's paths, such as `/scratch`.")
    modes_decide: bool = Field(
        False,
        description="As `datamgr scan import --modes-decide`: there are no access control lists.",
    )
    workers: int = Field(0, ge=0, le=256, description="As `scan.workers`, for this one.")
    cross_mounts: bool = Field(
        False, description="Enter other file systems mounted below the paths."
    )

    @model_validator(mode="after")
    def _check(self) -> "NightlyFileSystem":
        if not self.paths and not self.import_:
            raise ValueError(f"{self.name} needs paths, or import and from")
        if bool(self.import_) != bool(self.from_):
            raise ValueError(f"{self.name} needs import and from together")
        return self


class NightlySettings(Section):
    """What `datamgr nightly` does."""

    filesystem: tuple[NightlyFileSystem, ...] = Field(
        (), description="What to scan, one table each, in this order."
    )
    history_all_days: int = Field(
        90, ge=1, description="Days for which the history keeps every scan of a project."
    )
    history_weekly_days: int = Field(
        730,
        ge=1,
        description="Days for which it then keeps one scan a week; beyond these, one a month.",
    )

    @model_validator(mode="after")
    def _check(self) -> "NightlySettings":
        names = [filesystem.name for filesystem in self.filesystem]
        if len(set(names)) < len(names):
            raise ValueError("two file systems have the same name")
        if self.history_weekly_days < self.history_all_days:
            raise ValueError("history_weekly_days is less than history_all_days")
        return self


class AlertRule(Section):
    """When to tell whom; at least one threshold and one receiver."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,100}$", description="Letters, digits, `-` and `_`."
    )
    project: str = Field(
        "*", description="For which projects: a pattern such as `cosmo*`, `*` for all."
    )
    bytes_percent: float | None = Field(
        None, gt=2, description="Tell from this percentage of the space quota on."
    )
    inodes_percent: float | None = Field(
        None, gt=2, description="Tell from this percentage of the inode quota on."
    )
    days_to_full: float | None = Field(
        None, gt=0, description="Tell when a quota will be full in this many days or less."
    )
    email: tuple[EmailAddress, ...] = Field((), description="Addresses to send mail to.")
    webhook: str | None = Field(
        None,
        pattern=r"^https?://[!-~]+$",
        description="URL that gets the notice as JSON; see docs/howto/quotas-and-alerts.md.",
    )

    @model_validator(mode="after")
    def _check(self) -> "AlertRule":
        if (self.bytes_percent, self.inodes_percent, self.days_to_full) == (None, None, None):
            raise ValueError(
                f"rule {self.name} needs bytes_percent, inodes_percent or days_to_full"
            )
        if not self.email and self.webhook is None:
            raise ValueError(f"rule {self.name} needs email or webhook")
        return self


class AlertSettings(Section):
    """Notices about projects that fill their quotas."""

    smtp: str = Field(
        "localhost:25",
        pattern=r"^[^\s/]+:[0-9]{1,5}$",
        description="`host:port` of the mail server; it is not logged in to.",
    )
    sender: EmailAddress = Field(
        "datamgr@localhost", description="The address that mail comes from."
    )
    timeout_s: Seconds = Field(
        10.0, gt=0, description="How long a mail server or webhook may take to answer, in seconds."
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="Signs what is sent to webhooks; set it in the environment as "
        "`DATAMGR_ALERTS__WEBHOOK_SECRET`.",
    )
    rule: tuple[AlertRule, ...] = Field((), description="When to tell whom, one table each.")

    @model_validator(mode="after")
    def _check(self) -> "AlertSettings":
        names = [rule.name for rule in self.rule]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        return self
