"""The one database: connections, transactions and bulk loads."""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import embedded, migrations
from datamgr.config import Settings
from datamgr.errors import InvalidError, UnavailableError

log = logging.getLogger(__name__)

EMBEDDED = "embedded"
# Where a session of `Database.snapshot` keeps what was asked once, which stays true for it.
SNAPSHOT = "snapshot"
# Of one process at most.
CONNECTIONS = 15


class Base(orm.DeclarativeBase):
    """All tables; constraint names are fixed so that migrations can name them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  read by SQLAlchemy as a class attribute
        int: sa.BigInteger,
        str: sa.Text,
        bytes: sa.LargeBinary,
        datetime: sa.DateTime(timezone=True),
    }


class Uint64(sa.types.TypeDecorator[int]):
    """A whole number from 0 to 2**64 - 1, as the kernel numbers devices and inodes."""

    impl = sa.Numeric(20, 0)
    cache_ok = True

    def process_result_value(self, value: Decimal | None, dialect: sa.Dialect) -> int | None:
        """The number as Python counts."""
        return None if value is None else int(value)


@dataclass(frozen=True)
class Database:
    """A database that answers and has the tables of this version."""

    engine: sa.Engine

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[orm.Session]:
        """A session that commits at the end of the block and rolls back on an exception.

        Raises:
            UnavailableError: the database went away.
        """
        with _begun(self._read_only if read_only else self.engine) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[orm.Session]:
        """A session that only reads, and sees one state of the database throughout.

        Raises:
            UnavailableError: the database went away.
        """
        with _begun(self._frozen) as session:
            session.info[SNAPSHOT] = {}
            yield session

    # What a transaction is like travels with its BEGIN: to set it would be a round trip.
    @cached_property
    def _read_only(self) -> sa.Engine:
        return self.engine.execution_options(postgresql_readonly=True)

    @cached_property
    def _frozen(self) -> sa.Engine:
        return self._read_only.execution_options(isolation_level="REPEATABLE READ")


@contextmanager
def _begun(engine: sa.Engine) -> Iterator[orm.Session]:
    with (
        explained(),
        orm.Session(engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def open_database(settings: Settings, *, migrate: bool | None = None) -> Iterator[Database]:
    """The configured database, started when it is the embedded one, stopped by its last user.

    `migrate`: bring the tables to this version; by default the embedded database is brought
    up to date and a server of the site's own is not.

    Raises:
        UnavailableError: it does not answer, or its tables are of another version.
    """
    with server_url(settings) as url:
        engine = make_engine(url, settings.database.connect_timeout_s)
        try:
            with explained():
                migrations.ensure_current(
                    engine,
                    upgrade=settings.database.url == EMBEDDED if migrate is None else migrate,
                )
            yield Database(engine)
        finally:
            engine.dispose()


@contextmanager
def server_url(settings: Settings) -> Iterator[sa.URL]:
    """The SQLAlchemy URL of the server, which is kept running for the block if embedded.

    Raises:
        UnavailableError: the embedded server cannot be started, or the URL is malformed.
    """
    if settings.database.url == EMBEDDED:
        with embedded.running(settings.state_dir) as server:
            yield server.url()
        return
    try:
        yield sa.make_url(settings.database.url).set(drivername="postgresql+psycopg2")
    except sa.exc.ArgumentError as error:
        raise UnavailableError(
            "database.url is no SQLAlchemy URL; write it like postgresql://user@host/name"
        ) from error


def make_engine(url: sa.URL, connect_timeout_s: int) -> sa.Engine:
    """An engine whose sessions speak UTC and name themselves datamgr to the server."""
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        # All are kept once they are open: to connect takes longer than most transactions. The one
        # that was used last is taken first.
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_use_lifo=True,
        connect_args={
            "connect_timeout": connect_timeout_s,
            # A lock may be held for hours without a word; a dead network must not hold it for more.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 6,
            "application_name": "datamgr",
            "options": "-c timezone=UTC",
        },
    )


@contextmanager
def explained() -> Iterator[None]:
    """Turn a database that does not answer into one sentence.

    Raises:
        UnavailableError: the connection failed or broke, or the server is out of resources.
        InvalidError: a text is no UTF-8, as an argument of a command may be.
    """
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
        said = str(error.orig).strip().splitlines()
        reason = said[0] if said else "no reason given"
        raise UnavailableError(f"the database does not answer: {reason}") from error
    except UnicodeEncodeError as error:
        raise InvalidError(f"{error.object!r} is no valid UTF-8") from error


def copy_csv(
    session: orm.Session, table: str, columns: Sequence[str], parts: Iterable[bytes]
) -> None:
    """Load CSV text into `table` by COPY; an empty field is NULL, bytea is `\\x` and hex.

    `parts` are joined as they are, so a part need not end at a line's end. The rows belong to
    the session's transaction.
    Source: PostgreSQL manual, COPY.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    raw = session.connection().connection.cursor()
    raw.copy_expert(
        f'COPY "{table}" ({names}) FROM STDIN (FORMAT csv)',
        _ByteStream(parts),
        size=1 << 20,
    )


class _ByteStream(io.RawIOBase):
    """A readable file over chunks of bytes, so that a load needs no temporary file."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._rest = memoryview(part)
        taken = self._rest[:size] if size >= 0 else self._rest
        self._rest = self._rest[len(taken) :]
        return bytes(taken)


def utc_now() -> datetime:
    """The present time, with its zone."""
    return datetime.now(UTC)
