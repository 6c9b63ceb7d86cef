"""`datamgr identity`: who may log in to the web pages, and who has."""

from typing import Any

import click

from datamgr import db, external_ids, identity, sessions
from datamgr.cli import options, output, web
from datamgr.config import Settings
from datamgr.errors import InvalidError, NotFoundError

_WHO = [
    output.text("username", "account"),
    output.text("issuer", "issuer"),
    output.text("subject", "subject"),
]
_account = click.option("--account", metavar="NAME", help="Only of this account.")


@click.group(name="identity")
def identity_() -> None:
    """Who may log in to the web pages, and who has.

    With `web.login = "oidc"` a provider says who somebody is, and this list says which account that
    is here. There is no rule about names or mail addresses: who is not in the list stays outside.
    """


@identity_.command(name="map")
@click.argument("issuer")
@click.argument("subject")
@click.argument("account")
@options.as_json
@options.pass_settings
def map_(settings: Settings, *, issuer: str, subject: str, account: str, as_json: bool) -> None:
    """Let SUBJECT of ISSUER log in as ACCOUNT.

    Who tries without being in the list is shown the command that staff would need. For staff.

    \b
    Example:
      datamgr identity map https://cilogon.org http://cilogon.org/serverA/users/42 ada
    """
    caller = identity.current(settings)
    with db.open_database(settings) as database, database.transaction() as session:
        row = external_ids.row_of(external_ids.map_to(session, caller, issuer, subject, account))
    _show("identity.map", row, as_json=as_json)


@identity_.command()
@click.argument("issuer")
@click.argument("subject")
@options.as_json
@options.pass_settings
def unmap(settings: Settings, *, issuer: str, subject: str, as_json: bool) -> None:
    """Let SUBJECT of ISSUER log in no more.

    Sessions that there are go on; `datamgr identity revoke --account NAME` ends them. For staff.
    """
    caller = identity.current(settings)
    with db.open_database(settings) as database, database.transaction() as session:
        row = external_ids.row_of(external_ids.unmap(session, caller, issuer, subject))
    _show("identity.unmap", row, as_json=as_json)


@identity_.command(name="list")
@_account
@options.as_json
@options.pass_settings
def list_(settings: Settings, *, account: str | None, as_json: bool) -> None:
    """List who may log in as which account."""
    with db.open_database(settings) as database, database.transaction(read_only=True) as session:
        rows = external_ids.list_ids(session, account)
    if as_json:
        output.emit("identity.list", rows)
        return
    columns = [*_WHO, output.time("created_at", "since")]
    output.table("Who may log in", columns, rows, empty="nobody by a provider")


@identity_.command(name="sessions")
@_account
@options.as_json
@options.pass_settings
def sessions_(settings: Settings, *, account: str | None, as_json: bool) -> None:
    """List the sessions that have not ended.

    Your own; for staff, those of all.
    """
    caller = identity.current(settings)
    with db.open_database(settings) as database, database.transaction(read_only=True) as session:
        rows = sessions.list_sessions(session, settings, caller, account)
    if as_json:
        output.emit("identity.sessions", rows)
        return
    columns = [
        output.count("id", "session"),
        output.text("username", "account"),
        output.text("method", "by"),
        output.text("client", "from"),
        output.time("created_at", "since"),
        output.time("seen_at", "last used"),
        output.time("expires_at", "ends"),
        output.text("agent", "browser"),
    ]
    output.table("Sessions", columns, rows, empty="none")


@identity_.command()
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, 2**63 - 1))
@click.option("--account", metavar="NAME", help="All sessions of this account.")
@options.as_json
@options.pass_settings
def revoke(settings: Settings, *, ids: tuple[int, ...], account: str | None, as_json: bool) -> None:
    """End sessions, at once.

    Your own, and for staff anybody's. With `web.login = "proxy"` who is still logged in at the
    proxy gets a new one: end that login first.

    \b
    Examples:
      datamgr identity revoke 12
      datamgr identity revoke --account ada
    """
    if bool(ids) == (account is not None):
        raise click.UsageError("name either sessions or an --account")
    caller = identity.current(settings)
    with db.open_database(settings) as database, database.transaction() as session:
        rows = sessions.revoke(session, caller, ids=ids, username=account)
    if as_json:
        output.emit("identity.revoke", rows)
        return
    columns = [output.count("id", "session"), output.text("username", "account")]
    output.table("Ended", columns, rows, empty="there was none")


@identity_.command()
@options.as_json
@options.pass_settings
def link(settings: Settings, as_json: bool) -> None:
    """Print a new link to the web pages that run, good once, for `web.link_s`.

    With `web.login = "local"`. It logs a browser in as you.
    """
    if settings.web.login != "local":
        raise InvalidError(f"web.login is {settings.web.login}, which has no links; log in there")
    try:
        address = web.address_file(settings).read_text().strip()
    except OSError as error:
        raise NotFoundError("no web pages run here; start them by `datamgr web`") from error
    with db.open_database(settings) as database:
        row = {"link": web.new_link(settings, database, address)}
    if as_json:
        output.emit("identity.link", [row])
        return
    click.echo(row["link"])


def _show(schema: str, row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.emit(schema, [row])
        return
    output.details("Mapped" if schema == "identity.map" else "Not mapped any more", _WHO, row)
