"""A journal in PostgreSQL, by ``psycopg``: for the processes of any number of machines."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from ..errors import InputError
from ..extras import needs
from ..frames import conceals
from .sql import FORMAT, KEEP, SqlJournal, digest
from .statements import INDEXES, Content, Session
from .store import JournalError, State
from .transactions import NotKept, Transactions

_T = TypeVar("_T")
_KIND: Final = 0x736D7470
"""Of the lock under which the tables are made."""
_WAIT: Final = 5000
"""Milliseconds for the lock of a row that another process has."""
_TRIES: Final = 5
_PAUSE: Final = 0.1
"""Seconds between two questions of how a transaction ended."""
_DECIDED: Final = 10.0
"""Seconds in which a server that was lost at the end of a transaction must say how that ended."""
_DEFAULTS: Final = {
    "application_name": "pysmtpx",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Unless the URL says otherwise: a server that is silent is given up."""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS journal (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key TEXT UNIQUE, sender TEXT NOT NULL,
    size BIGINT NOT NULL, queued DOUBLE PRECISION NOT NULL, due DOUBLE PRECISION NOT NULL,
    expires DOUBLE PRECISION NOT NULL, tries INTEGER NOT NULL, owed INTEGER NOT NULL, owner TEXT NOT NULL,
    until DOUBLE PRECISION NOT NULL
);
CREATE TABLE IF NOT EXISTS contents (
    message BIGINT PRIMARY KEY REFERENCES messages ON DELETE CASCADE, payload BYTEA, file TEXT,
    digest BYTEA NOT NULL
);
CREATE TABLE IF NOT EXISTS fates (
    message BIGINT NOT NULL REFERENCES messages ON DELETE CASCADE, place INTEGER NOT NULL,
    address TEXT NOT NULL, state TEXT NOT NULL, doubter TEXT NOT NULL, reply TEXT NOT NULL,
    stage TEXT NOT NULL, changed DOUBLE PRECISION NOT NULL, PRIMARY KEY (message, place)
);
{INDEXES}
"""


class PostgresJournal(SqlJournal):
    """The journal of a database of PostgreSQL, for processes of any number of machines; a context manager.

    ``url`` is what ``psycopg`` takes: ``postgresql://user:password@host/database``, whose password can also
    be in ``~/.pgpass`` or ``$PGPASSWORD``. Its tables are in a schema of their own, ``pysmtpx``, or what
    ``?journal=NAME`` says: each is a journal of its own. It is made where it is not there, unless ``create``
    is false. ``keep`` is that of ``pysmtpx.journal.messages.Journal``. It is for servers from version 13 on.

    Raises ``JournalError`` where the database cannot be reached, read or written, as do its methods;
    ``InputError`` for what is no URL, and ``MissingExtra``. None of them shows the URL's password.
    """

    @conceals
    def __init__(
        self, url: str, *, keep: float | Mapping[State, float | None] | None = KEEP, create: bool = True
    ) -> None:
        super().__init__(keep)
        self._database: Database = Database(url, create=create)

    @property
    def name(self) -> str:
        """Where it is: without user and password."""
        return self._database.name

    @property
    def _transactions(self) -> Database:
        return self._database

    def _write(self, action: Callable[[Session], _T], *, durable: bool = True) -> _T:
        return self._database.write(action, durable=durable)

    def _read(self, query: str, *values: Any) -> list[Any]:
        return self._database.read(query, *values)

    def _content(self, octets: bytes) -> Content:
        return Content(octets, None, digest(octets))

    def _octets(self, content: Content) -> bytes | None:
        return content.payload

    def _remove(self, content: Content) -> None:
        """Nothing is beside the database."""

    def __repr__(self) -> str:
        return f"<PostgresJournal {self.name}>"


class _Session:
    """A connection of ``psycopg`` in a transaction."""

    lock, skip = "FOR UPDATE", "FOR UPDATE SKIP LOCKED"

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.number = ""
        """Of the transaction, by which the server knows later how it ended."""

    def all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        found: list[Any] = self.connection.execute(_marked(query), values).fetchall()
        return found

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        return int(self.connection.execute(_marked(statement), [_text(each) for each in values]).rowcount)

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        plain = [[_text(each) for each in row] for row in rows]
        if plain:
            self.connection.cursor().executemany(_marked(statement), plain)

    def insert(self, statement: str, values: Sequence[Any]) -> int | None:
        plain = [_text(each) for each in values]
        row = self.connection.execute(f"{_marked(statement)} RETURNING number", plain).fetchone()
        return None if row is None else int(row[0])


def _marked(statement: str) -> str:
    return statement.replace("?", "%s")


def _text(value: Any) -> Any:
    """A text as PostgreSQL takes it: a server's reply may have an octet of 0."""
    return value.replace("\x00", "") if isinstance(value, str) else value


class Database(Transactions[_Session]):
    """One connection to PostgreSQL; made again where it was lost, and in a child of ``os.fork``.

    A transaction that is ``durable`` is on the server's disk when it has ended (``synchronous_commit`` is on,
    or what the server says beyond that); one that is not comes there a moment later, in the same order. Where
    the server is lost just as one ends, it is asked afterwards how that ended.
    """

    @conceals
    def __init__(self, url: str, *, create: bool = True) -> None:
        self._psycopg = needs("postgresql", "psycopg")
        self.errors = (self._psycopg.Error, OSError)
        self._conninfo, self.schema, name = taken_apart(url)
        is_malformed = False
        try:
            self._psycopg.conninfo.conninfo_to_dict(self._conninfo)
        except self._psycopg.Error:  # its text can quote the password
            is_malformed = True
        if is_malformed:
            raise InputError("the URL of the journal is malformed, or has a parameter that is none")
        self._create = create
        super().__init__(name)

    # -- a connection ----------------------------------------------------------------------

    def _connected(self) -> _Session:
        session = _Session(self._dialled())
        try:
            self._prepare(session)
        except BaseException:
            session.connection.close()
            raise
        return session

    @conceals
    def _dialled(self) -> Any:
        # Prepared statements would be lost behind a pooler that changes the server's session.
        return self._psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)

    def _prepare(self, session: _Session) -> None:
        run = session.connection.execute
        ((is_there,),) = run("SELECT to_regnamespace(%s) IS NOT NULL", [f'"{self.schema}"'])
        if not is_there and not self._create:
            raise InputError(f"there is no journal {self.name}")
        with session.connection.transaction():
            run("SELECT pg_advisory_xact_lock(%s)", [_KIND])  # two that make it at once would fail
            if not is_there:
                run(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"')
            run(f'SET LOCAL search_path = "{self.schema}"')
            ((is_made,),) = run("SELECT to_regclass('doubtful') IS NOT NULL")
            if not is_made:
                run(_SCHEMA)
            run("INSERT INTO journal VALUES ('format', %s) ON CONFLICT DO NOTHING", [FORMAT])
            ((found,),) = run("SELECT value FROM journal WHERE name = 'format'")
        if found != FORMAT:
            raise JournalError(f"{self.name} is a journal of format {found}, this version writes {FORMAT}")

    def _advice(self, error: Exception) -> str:
        return f"{' '.join(str(error).split())}: {_CURES.get(_class_of(error), _REACH)}"

    # -- a transaction ---------------------------------------------------------------------

    def write(self, action: Callable[[_Session], _T], *, durable: bool = True) -> _T:
        """Do this within a transaction; one that was in another's way is tried again."""
        for _ in range(_TRIES - 1):
            try:
                return super().write(action, durable=durable)
            except JournalError as error:
                if _class_of(error.__cause__) != _IN_THE_WAY:
                    raise
        return super().write(action, durable=durable)

    def _begin(self, store: _Session, *, durable: bool) -> None:
        try:
            self._start(store, durable=durable)
        except self._psycopg.OperationalError:
            if not store.connection.broken:
                raise
            store.connection = self._dialled()  # it was lost at rest
            self._start(store, durable=durable)

    def _start(self, store: _Session, *, durable: bool) -> None:
        # In one round trip. What the server does beyond "on", such as for its replicas, stays.
        commit = (
            "SELECT set_config('synchronous_commit', 'on', true)"
            " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            if durable
            else "SET LOCAL synchronous_commit = off"
        )
        cursor = store.connection.execute(
            f'BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path = "{self.schema}";'
            f" SET LOCAL lock_timeout = {_WAIT}; {commit}; SELECT pg_current_xact_id()::text"
        )
        while cursor.nextset():
            pass
        (store.number,) = cursor.fetchone()

    def _commit(self, store: _Session) -> None:
        try:
            store.connection.execute("COMMIT")
        except self._psycopg.OperationalError:
            if not store.connection.broken or not self._has_ended(store.number):
                raise
            self._forget(store)

    def _has_ended(self, number: str) -> bool:
        """Whether a transaction whose end nobody told was carried out; raises ``NotKept``."""
        limit = time.monotonic() + _DECIDED
        while True:
            status = "unknown"
            with contextlib.suppress(self._psycopg.OperationalError), self._dialled() as connection:
                query = "SELECT pg_xact_status(%s::xid8)"
                ((status,),) = connection.execute(query, [number]).fetchall()
            if status in ("committed", "aborted"):
                return status == "committed"
            if time.monotonic() > limit:
                text = f"the journal {self.name} was lost as a transaction ended, which it may have or not"
                raise NotKept(f"{text}: {_REACH}")
            time.sleep(_PAUSE)

    def _undo(self, store: _Session) -> bool:
        idle = self._psycopg.pq.TransactionStatus.IDLE
        with contextlib.suppress(self._psycopg.OperationalError):
            if not store.connection.broken and store.connection.info.transaction_status != idle:
                store.connection.execute("ROLLBACK")
                return True
        if store.connection.broken:
            self._forget(store)
        if not self._committing:
            return True
        try:  # an interrupt came as it ended
            return not self._has_ended(store.number)
        except NotKept as error:
            for ticket in self._committing:
                ticket.error = error
            return False

    def _forget(self, store: _Session) -> None:
        """The next one who wants it dials again."""
        store.connection.close()
        if self._store is store:
            self._store = None

    def _fetched(self, store: _Session, query: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._rows(store, query, values)
        except self._psycopg.OperationalError:
            if not store.connection.broken:
                raise
            store.connection = self._dialled()
            return self._rows(store, query, values)

    def _rows(self, store: _Session, query: str, values: Sequence[Any]) -> list[Any]:
        with store.connection.transaction():
            store.connection.execute(f'SET LOCAL search_path = "{self.schema}"')
            return store.all(query, values)

    def _shut(self, store: _Session) -> None:
        store.connection.close()


def _class_of(error: BaseException | None) -> str:
    """The class of its SQLSTATE; "" where it has none."""
    return (getattr(error, "sqlstate", None) or "")[:2]


_IN_THE_WAY: Final = "40"
_REACH: Final = "see that the server runs and can be reached, and that the URL is right"
_CURES: Final = {
    "55": "another session has it: wait for that one to finish its transaction",
    _IN_THE_WAY: "other sessions were in its way, again and again",
    "53": "make room; what it has stays, and what was not told to be there is not",
    "28": "the URL's user and password must be right",
    "3D": "the database must be there",
    "42": "the user must be allowed to make a schema and tables, or to use those that are there",
    "25": "the server takes no writes: give the URL of the primary one",
    "XX": "stop whoever uses it, and look at the server's log: it found damage",
    "57": "the server was stopped",
}
"""By the class of SQLSTATE."""


def taken_apart(url: str) -> tuple[str, str, str]:
    """What ``psycopg`` takes, the name of the schema, and how the journal is called in texts.

    Raises ``InputError``, which does not show the URL.
    """
    schema, given = "pysmtpx", []
    place, _, query = url.partition("?")
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name == "journal":
            schema = value
        else:
            given.append(pair)
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise InputError("the name of a journal is of small letters, digits and _, 63 at most")
    named = {pair.partition("=")[0] for pair in given}
    given += [f"{name}={value}" for name, value in _DEFAULTS.items() if name not in named]
    shown = re.sub(r"//[^/]*@", "//", place)
    return f"{place}?{'&'.join(given)}", schema, f"{shown}?journal={schema}"
