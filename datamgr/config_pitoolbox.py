"""The settings of permission requests: whose files may be changed, by whom, and who is told."""

from typing import Annotated

from pydantic import Field

from datamgr.config_types import AbsolutePath, EmailAddress, Section

# A unix group of each project, by the project's name.
GroupPattern = Annotated[str, Field(pattern=r"^[^\s/:]*\{project\}[^\s/:]*$")]


class PitoolboxSettings(Section):
    """Permission requests of principal investigators, see `datamgr perms`."""

    roots: tuple[AbsolutePath, ...] = Field(
        (),
        description="Directories below which projects lie, such as `/global/cfs`; nothing else is "
        "ever changed. A privileged worker needs it; an unprivileged one may do without.",
    )
    min_uid: int = Field(
        1000, ge=1, description="Accounts below this number are the system's: no file is theirs."
    )
    min_gid: int = Field(
        1000, ge=1, description="Groups below this number are the system's: no file is theirs."
    )
    account: str = Field(
        "nobody",
        min_length=1,
        description="The account, by name or number, that the privileged process becomes when it "
        "is started by root.",
    )
    groups: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Further unix groups of a project beside its own, such as "
        '`{ cosmo = ["cosmo-data", "cosmo-web"] }`.',
    )
    pi_groups: GroupPattern | None = Field(
        None,
        description="Unix group whose members are PIs of a project beside those that are "
        "registered, such as `{project}-pi`.",
    )
    proxy_groups: GroupPattern | None = Field(
        None, description="Likewise for those who may act for the PIs, such as `{project}-proxy`."
    )
    notify: bool = Field(
        False, description="Send mail when a request has ended, unless it says otherwise."
    )
    mail_domain: str = Field(
        "localhost",
        pattern=r"^[A-Za-z0-9.-]+$",
        description="Mail goes to the account at this domain, by the server in `alerts.smtp`.",
    )
    mail_addresses: dict[str, EmailAddress] = Field(
        default_factory=dict,
        description='Addresses of accounts for which that is wrong, such as `{ ada = "a@b.org" }`.',
    )
    executors: int = Field(
        4, ge=1, le=16, description="Privileged processes that work on a request at the same time."
    )
    lister_socket: AbsolutePath | None = Field(
        None,
        description="Socket on which `datamgr perms lister` answers; default "
        "`<state_dir>/perms-lister.sock`.",
    )
    web_account: str | None = Field(
        None,
        min_length=1,
        description="The account of the web pages, by name or number: it may ask the lister, as "
        "root and the account that started the lister may.",
    )
    max_names: int = Field(
        1_000_000,
        ge=1,
        description="Names that the lister reads of one directory; what comes after them is not "
        "shown, and the answer says so.",
    )
    max_paths: int = Field(10_000, ge=1, le=10_000, description="Paths that one request may name.")
