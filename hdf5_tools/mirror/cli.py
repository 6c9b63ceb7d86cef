"""`datamgr hdf5 mirror`: replicas of HDF5 files on another machine, while they are written."""

from pathlib import Path
from typing import Any

import click

from datamgr import daemon, display, logs
from datamgr.cli import options, output
from datamgr.errors import ConflictError, InvalidError
from hdf5_tools.mirror import auth, listener, receiver, verify
from hdf5_tools.mirror.address import Address, Url
from hdf5_tools.mirror.place import Place

_FILE = click.Path(path_type=Path, readable=False)  # whether it can be read, opening says
_TOKEN = click.option("--token-file", type=_FILE, metavar="FILE",
                      help="The token that both sides share, at least 16 bytes.")  # fmt: skip


@click.group()
def mirror() -> None:
    """Replicas of HDF5 files on another machine, while they are written.

    A program opens its file by hdf5_tools.mirror.open(URL, PATH), and what it writes also goes to
    the receiver that `serve` starts. A replica is called NAME.incomplete until its writer has
    closed the file and both sides are the same bit for bit.

    \b
    URL  h5m://HOST:PORT/NAME     h5ms://HOST:PORT/NAME (TLS)     h5m+unix:PATH?NAME
    """


@mirror.command()
@click.option("--listen", required=True, metavar="ADDRESS", help="HOST:PORT or unix:PATH.")
@click.option("--into", required=True, type=_FILE, metavar="DIR", help="Where replicas go.")
@_TOKEN
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="Certificate (PEM), for TLS.")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="Its key (PEM).")
@click.option("--grace", type=options.SPAN, default="60s", show_default=True, metavar="TIME",
              help="How long a name is kept for a writer whose link broke.")  # fmt: skip
def serve(
    *,
    listen: str,
    into: Path,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    grace: int,
) -> None:
    """Receive replicas into DIR until stopped.

    A TCP port needs a token; a unix socket is for this account alone. Names may have folders, and
    never lead out of DIR. The certificate may be self-signed: the token proves it.

    \b
    openssl rand -hex 32 > token; chmod 600 token
    datamgr hdf5 mirror serve --listen 0.0.0.0:5070 --into /replicas --token-file token
    """
    where = Address.parse(listen)
    if not where.path and token_file is None:
        raise InvalidError("a TCP port is open to everybody: give a --token-file")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    token = None if token_file is None else auth.read_token(token_file)
    tls = None if tls_cert is None or tls_key is None else auth.server_context(tls_cert, tls_key)
    logs.configure_logging(daemon=True)
    directory = Place(into)
    with daemon.stop_on_signals() as stop, listener.listen(where) as waiting:
        serving = receiver.Receiver(directory, token, tls=tls, grace_s=grace)
        actual = where if where.path else Address(where.host, waiting.getsockname()[1])
        click.echo(f"receiving at {actual} into {display.printable(into)}")
        serving.serve(waiting, stop)
    directory.close()
    if where.path:
        Path(where.path).unlink(missing_ok=True)


@mirror.command(name="send")
@click.argument("local", type=_FILE)
@click.argument("url")
@_TOKEN
def send_(*, local: Path, url: str, token_file: Path | None) -> None:
    """Make the replica at URL equal to LOCAL, a file that nobody writes.

    Only what differs is sent: for a file whose mirror was given up, or that had none.
    """
    verify.send(url, local, token_file=token_file)
    click.echo(f"{Url.parse(url)} is the same as {display.printable(local)}")


@mirror.command(name="verify")
@click.argument("local", type=_FILE)
@click.argument("url")
@_TOKEN
@options.as_json
def verify_(*, local: Path, url: str, token_file: Path | None, as_json: bool) -> None:
    """Compare LOCAL with its replica at URL by the hashes of their blocks.

    Ranges that differ are listed, with the datasets of LOCAL that have data there. An incomplete
    replica is compared as far as it is. Ends with 6 if anything differs.
    """
    found = verify.verify(url, local, token_file=token_file)
    rows: list[dict[str, Any]] = [
        {"begin": r.begin, "end": r.end, "datasets": list(r.datasets)} for r in found.differing
    ]
    shown = display.printable(local)
    if as_json:
        output.emit(
            "hdf5.mirror.verify", rows, file=bytes(local), url=str(Url.parse(url)),
            size_bytes=found.size_bytes, replica_bytes=found.replica_bytes,
            is_complete=found.is_complete,
        )  # fmt: skip
    else:
        state = "complete" if found.is_complete else "incomplete"
        title = f"{shown}: {found.size_bytes} bytes; replica: {found.replica_bytes}, {state}"
        columns = [
            output.count("begin", "from byte"),
            output.count("end", "to byte"),
            output.text("names", "datasets"),
        ]
        for row in rows:
            row["names"] = ", ".join(row["datasets"])
        output.table(title, columns, rows, empty="both are the same")
    if rows:
        ranges = "1 range" if len(rows) == 1 else f"{len(rows)} ranges"
        raise ConflictError(f"{shown} and its replica differ in {ranges}")
