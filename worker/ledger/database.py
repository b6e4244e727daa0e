"""The ledger's file: how it is created, opened, recognised and refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from worker.errors import GateClosed
from worker.locks import may_write

APPLICATION_ID = 0x66616365
"""Marks the file as ours in SQLite's header ("face")."""

SCHEMA_VERSION = 4
FILE_NAME = "ledger.sqlite3"
DRAFT_NAME = "ledger.sqlite3.planning"

PATIENCE_MS = 5_000
"""How long a connection waits for a lock that another one has."""

WRITERS_PATIENCE_MS = 60_000
"""As long for the run's own writer. Whoever gives an order holds the lock for an instant; should that
process be stopped just then, the run waits rather than fails."""

WAITING, CLAIMED, SETTLED = 0, 1, 2
"""States of a call."""


# Faces whose row names another pair than their call does, and repeats of another pair than their
# first row: whoever reads the results would take one face for another.
MISTAKEN_ROWS = """
SELECT r.row_no FROM face f JOIN row r ON r.row_no = f.first_row JOIN call c USING (call_no)
WHERE r.person_id <> c.person_id OR (f.found_by IS NULL AND r.face_id <> f.face_id)
UNION ALL
SELECT r.row_no FROM repeat d JOIN row r USING (row_no) JOIN row o ON o.row_no = d.first_row
WHERE r.person_id <> o.person_id OR r.face_id <> o.face_id
LIMIT 1
"""


def query(connection: apsw.Connection, sql: str, bindings: apsw.Bindings = ()) -> Any:
    """Run one statement; rows come untyped, their shapes stand beside each statement."""
    return connection.execute(sql, bindings)


def seal(run_id: str, call_no: int, person_id: str, face_ids: list[str]) -> bytes:
    """Digest that ties a call to its run: a flipped bit in an ID must never be sent."""
    text = json.dumps([run_id, call_no, person_id, face_ids], ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def facts_seal(connection: apsw.Connection) -> str:
    """Digest of the facts fixed with the plan, as JSON like each of them."""
    facts = query(connection, "SELECT key, value FROM run WHERE key <> 'seal' ORDER BY key")
    text = json.dumps(facts.fetchall(), ensure_ascii=False)
    return json.dumps(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def create_draft(path: Path) -> apsw.Connection:
    """A fresh, private file for planning; durable only once it is sealed and renamed."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
    connection = apsw.Connection(str(path))
    for pragma in (
        "journal_mode = OFF",  # first: a journal left by a death would bar the directory
        f"application_id = {APPLICATION_ID}",
        f"user_version = {SCHEMA_VERSION}",
        "synchronous = OFF",
        "locking_mode = EXCLUSIVE",
        "temp_store = FILE",
        "cache_size = -32000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    schema = (files(__package__) / "schema.sql").read_text()
    connection.execute(schema)
    return connection


def _damaged(path: Path, what: str) -> GateClosed:
    return GateClosed(
        f"{path}: {what}",
        "restore the run directory from a copy, or plan a new run from the original input"
        " (faces that are already gone cost one call per person)",
    )


def _recognise(connection: apsw.Connection, path: Path, *, checked: bool) -> None:
    application_id = connection.pragma("application_id")
    version = connection.pragma("user_version")
    if not connection.pragma("page_count"):
        raise _damaged(path, "the ledger is an empty file")
    if application_id != APPLICATION_ID:
        raise _damaged(path, "this is a SQLite file, but not a ledger of facepurge")
    if version != SCHEMA_VERSION:
        raise GateClosed(
            f"{path}: the ledger has format {version}, this program knows format {SCHEMA_VERSION}",
            "use the version of facepurge that wrote it (see its report/summary.json)",
        )
    (complaint,) = ("ok",) if checked else query(connection, "PRAGMA quick_check(1)").fetchone()
    if complaint != "ok":
        raise _damaged(path, f"the ledger is damaged ({str(complaint).splitlines()[-1]})")
    if not checked and query(connection, MISTAKEN_ROWS).fetchone() is not None:
        raise _damaged(
            path, "the ledger is damaged (a row is not of the face that it was read for)"
        )
    sealed = query(connection, "SELECT value FROM run WHERE key = 'seal'").fetchone()
    if sealed != (facts_seal(connection),):
        raise _damaged(path, "the ledger is damaged (its run is not the one that was planned)")


def require_ledger(run_dir: Path) -> Path:
    """The path of the ledger of ``run_dir``; raises ``GateClosed`` when there is none."""
    path = run_dir / FILE_NAME
    if not path.is_file() or path.is_symlink():
        raise GateClosed(
            f"{run_dir}: there is no ledger of a run here ({FILE_NAME})",
            "name the directory of a run (runs/<run-id>), or start one: facepurge run SOURCE...",
        )
    return path


def open_ledger(
    run_dir: Path, *, read_only: bool = False, checked: bool = False
) -> apsw.Connection:
    """Open the ledger of ``run_dir``; ``read_only`` also where nobody may write, as in an archive.

    ``checked`` spares the reading of the whole file where this process has just done it.

    Raises ``GateClosed`` when there is none, or when it is not whole, not ours, or of another
    version.
    """

    def prepare(connection: apsw.Connection, path: Path) -> None:
        connection.set_busy_timeout(PATIENCE_MS)
        _recognise(connection, path, checked=checked)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            # To its end, where the change is committed: an error there must not pass unseen.
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.set_busy_timeout(WRITERS_PATIENCE_MS)
        connection.execute("PRAGMA cache_size = -16000")

    return _connect(run_dir, prepare, read_only=read_only)


def open_beside(run_dir: Path, *, read_only: bool) -> apsw.Connection:
    """Open the ledger of ``run_dir`` for a moment, beside the process that works on it.

    Costs that process nothing but the instant of a write: the file is not read through, a write
    waits for no disk (the run's next sync covers it), and the log is left to its owner.

    Raises ``GateClosed`` as ``open_ledger`` does, for what shows at a glance.
    """

    def prepare(connection: apsw.Connection, path: Path) -> None:
        connection.set_busy_timeout(PATIENCE_MS)
        if path.with_name(f"{FILE_NAME}-wal").exists():
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        _recognise(connection, path, checked=True)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA synchronous = NORMAL")

    return _connect(run_dir, prepare, read_only=read_only)


def _connect(
    run_dir: Path, prepare: Callable[[apsw.Connection, Path], None], *, read_only: bool
) -> apsw.Connection:
    path = require_ledger(run_dir)
    writable = may_write(run_dir)
    # SQLite would refuse links anywhere on the way too, and runs may well live behind one.
    name = str(run_dir.resolve() / FILE_NAME)
    flags = apsw.SQLITE_OPEN_NOFOLLOW
    if read_only and not writable and not path.with_name(f"{FILE_NAME}-wal").exists():
        # Without the files beside it that SQLite makes even to read; all there is, is in this one.
        name = f"file:{quote(name)}?immutable=1"
        flags |= apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    else:
        # A read-only connection could not recover the write-ahead log a crash has left.
        flags |= apsw.SQLITE_OPEN_READWRITE
    try:
        connection = apsw.Connection(name, flags=flags)
        try:
            prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except (apsw.NotADBError, apsw.CorruptError, UnicodeDecodeError) as error:
        raise _damaged(path, f"the ledger is damaged ({error})") from error
    except apsw.Error as error:
        raise GateClosed(
            f"{path}: the ledger cannot be opened ({error})",
            "check the owner, the permissions and the free space of the run directory"
            + ("" if writable else "; of an archive that nobody may write, take a copy first"),
        ) from error
    return connection
