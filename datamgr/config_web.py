"""The settings of the web pages: where they listen, and how people are known."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from datamgr.config_types import AbsolutePath, Seconds, Section

WebAddress = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\[\]:_-]+$")]
LogoutAddress = Annotated[str, Field(pattern=r"^(https?://[^/\s]+)?/[^/\\\s][^\\\s]*$")]
Issuer = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]


MOST_WORKERS = 64


class WebSettings(Section):
    """The web pages and the API."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8765, ge=0, le=65535, description="Port to listen on; 0 means any that is free."
    )
    socket: AbsolutePath | None = Field(
        None,
        description="Unix socket to listen on instead of a port, for a proxy of this machine.",
    )
    proxy_account: str | None = Field(
        None,
        min_length=1,
        description="The account of the proxy, by name or number: beside root and the account of "
        "the pages the only one whose connections to `socket` are taken.",
    )
    login: Literal["local", "proxy", "oidc"] = Field(
        "local",
        description="How people are known: `local` by a link that `datamgr web` prints, for the "
        "account that runs it; `proxy` by the account that a proxy names in `proxy_header`; `oidc` "
        "by a provider, see `[oidc]`. docs/howto/logins.md shows each.",
    )
    public_url: WebAddress | None = Field(
        None,
        description="Where browsers find the pages, such as `https://data.example.org`; `proxy` "
        "and `oidc` need it. With https, cookies are sent over TLS alone.",
    )
    proxy_header: str = Field(
        "X-Remote-User",
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header in which the proxy names the account. The proxy must remove what "
        "browsers send under this name.",
    )
    proxy_logout_url: LogoutAddress | None = Field(
        None,
        description="Where the proxy's own login is ended, such as `/Shibboleth.sso/Logout`; "
        "whoever logs out is pointed there.",
    )
    session_s: Seconds = Field(
        12 * 3600.0, gt=0, description="A session ends so long after the login, such as `12h`."
    )
    idle_s: Seconds = Field(4 * 3600.0, gt=0, description="And when it was not used for so long.")
    link_s: Seconds = Field(
        3600.0, gt=0, description="A link that was printed and not followed ends so soon."
    )
    workers: int = Field(
        1,
        ge=1,
        le=MOST_WORKERS,
        description="Processes that serve the socket together, each with a core, a memory and "
        "at most 15 connections to the database of its own.",
    )
    remembered_mib: int = Field(
        64,
        ge=0,
        description="So many MiB of pages are remembered by each process and shown again to the "
        "same session while nothing on them changed; 0 makes each page anew.",
    )
    sorted_mib: int = Field(
        4096,
        ge=0,
        description="About so many MiB below `state_dir/directories` are for sorted copies of "
        "directories with more than 20 000 files, made when one is shown; those not used for "
        "longest are removed.",
    )


class OidcSettings(Section):
    """The OpenID Connect provider that people log in at, with `web.login = "oidc"`."""

    issuer: Issuer | None = Field(
        None, description="The provider as it calls itself, such as `https://cilogon.org`."
    )
    name: str = Field(
        "the identity provider", min_length=1, description="What the page of logins calls it."
    )
    client_id: str = Field("", description="What the provider calls this application.")
    client_secret: SecretStr | None = Field(
        None, description="Its secret; better given as `DATAMGR_OIDC__CLIENT_SECRET`."
    )
    scopes: tuple[str, ...] = Field(("openid",), description="What is asked for.")
    logout: bool = Field(
        True,
        description="Whoever logs out is logged out at the provider, too, if that says where. "
        "Register `<web.public_url>/login` there as where to come back after a logout.",
    )
    parameters: dict[str, str] = Field(
        default_factory=dict,
        description='Sent along with the question, such as `{ idphint = "https://…" }`.',
    )
