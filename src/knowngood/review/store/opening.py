"""Opens the record: makes the tables it lacks, and gives transactions to read or write in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from knowngood.errors import ConfigError, StorageError

_UNUSABLE = (
    "locked",
    "busy",
    "full",
    "i/o error",
    "readonly",
    "unable to open",
)  # what SQLite says of a disk or a file
_MIGRATING = 40_923_761  # number of PostgreSQL's advisory lock: two stations started at once migrate in turn


class Database:
    """One database with the record's tables.

    Args:
        url: "sqlite:///FILE", a path, or "postgresql://...".

    Raises:
        ConfigError: The address is none, or of a database that is not supported.
        StorageError: It cannot be opened.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = address(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            try:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _closed(self.url, str(error)) from error
        more: dict[str, Any] = {} if self.is_sqlite else {"pool_size": 10, "max_overflow": 20}
        self.engine: Engine = create_engine(self.url, pool_pre_ping=not self.is_sqlite, **more)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        try:
            self._migrate()
        except DBAPIError as error:
            raise _closed(self.url, str(error.orig).splitlines()[0]) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yields a transaction that is on the disk when the block ends, and undone when it raises.

        Raises:
            StorageError: The database cannot be written now.
        """
        try:
            with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise _closed(self.url, str(error.orig).splitlines()[0]) from error
        except NoConnectionError as error:
            raise _closed(self.url, "all connections to it are busy") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yields a transaction to read in; it waits for no writer.

        Raises:
            StorageError: The database cannot be read now.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except OperationalError as error:
            why = str(error.orig).splitlines()[0]
            if self.is_sqlite and not any(sign in why.lower() for sign in _UNUSABLE):
                raise  # a mistake of ours, such as a table that is not there
            raise _closed(self.url, why) from error
        except NoConnectionError as error:
            raise _closed(self.url, "all connections to it are busy") from error

    def close(self) -> None:
        """Gives all connections back."""
        self.engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", "knowngood.review.store:migrations")
        config.set_main_option("path_separator", "os")
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATING})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def address(url: str | Path) -> URL:
    """Returns the address of a database; a path is SQLite's.

    Raises:
        ConfigError: It is none.
    """
    words = str(url)
    try:
        made = make_url(words if "://" in words else f"sqlite:///{words}")
        backend = made.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"--db {words}: {error}", expected="a file, sqlite:///FILE or postgresql://...") from error
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"--db {words}: {backend} is not supported.", expected="SQLite or PostgreSQL")
    if backend == "sqlite" and made.database in (None, "", ":memory:"):
        raise ConfigError(f"--db {words} names no file.", expected="a file: the record has to last")
    return made.set(drivername="postgresql+psycopg") if backend == "postgresql" else made


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # a writer takes its place at once: one that began as a reader could not become a writer beside another
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _closed(url: URL, why: str) -> StorageError:
    return StorageError(
        f"The record {url.render_as_string(hide_password=True)} cannot be used: {why}.",
        fix="Check --db, the disk, and that the database runs.",
    )
