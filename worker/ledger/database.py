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
import msgspec

from worker.errors import GateClosed
from worker.ledger.columns import seal_of
from worker.locks import may_write

APPLICATION_ID = 0x66616365
"""Marks the file as ours in SQLite's header ("face")."""

SCHEMA_VERSION = 5
FILE_NAME = "ledger.sqlite3"
DRAFT_NAME = "ledger.sqlite3.planning"
PARTS_NAME = "ledger.sqlite3.parts"
"""A directory for what memory does not hold while it is planned."""

READ_AT_ONCE_BYTES = 256 * 1024 * 1024
"""A ledger up to this size is read through when it is opened, which takes a second at most; a bigger
one beside the work (``worker.ledger.soundness``)."""

PATIENCE_MS = 5_000
"""How long a connection waits for a lock that another one has."""

WRITERS_PATIENCE_MS = 60_000
"""As long for the run's own writer. Whoever gives an order holds the lock for an instant; should that
process be stopped just then, the run waits rather than fails."""

WAITING, CLAIMED, SETTLED = 0, 1, 2
"""States of a call."""


# What was written once: what each row says of its block, the data, and the digest that was taken then.
SEALED_BLOCKS = {
    "rows": "SELECT first_row, rows, invalid, data, seal FROM row_block ORDER BY 1",
    "amendments": "SELECT first_row, rows, data, seal FROM amendment_block ORDER BY 1",
    "plan": "SELECT first_call_no, calls, persons, faces, data, seal FROM plan_block ORDER BY 1",
}
# The call before the first that was not begun, which was.
BEFORE_FRONTIER = """
SELECT f.call_no, c.call_no FROM frontier f LEFT JOIN call c ON c.call_no = f.call_no - 1
"""


def query(connection: apsw.Connection, sql: str, bindings: apsw.Bindings = ()) -> Any:
    """Run one statement; rows come untyped, their shapes stand beside each statement."""
    return connection.execute(sql, bindings)


def seal(run_id: str, call_no: int, person_id: str, face_ids: list[str]) -> bytes:
    """Digest that ties a call to its run: a flipped bit in an ID must never be sent."""
    text = msgspec.json.encode((run_id, call_no, person_id, face_ids))
    return hashlib.blake2b(text, digest_size=16).digest()


def facts_seal(connection: apsw.Connection) -> str:
    """Digest of the facts fixed with the plan, as JSON like each of them."""
    facts = query(connection, "SELECT key, value FROM run WHERE key <> 'seal' ORDER BY key")
    text = json.dumps(facts.fetchall(), ensure_ascii=False)
    return json.dumps(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def create_draft(path: Path) -> apsw.Connection:
    """A fresh, private file for planning; durable only once it is sealed and renamed."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
    connection = open_draft(path)
    for pragma in (f"application_id = {APPLICATION_ID}", f"user_version = {SCHEMA_VERSION}"):
        connection.execute(f"PRAGMA {pragma}")
    schema = (files(__package__) / "schema.sql").read_text()
    connection.execute(schema)
    return connection


def open_draft(path: Path) -> apsw.Connection:
    """The same file, where another process of this planning has begun it."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    for pragma in (
        "journal_mode = OFF",  # first: a journal left by a death would bar the directory
        "synchronous = OFF",
        "locking_mode = EXCLUSIVE",
        "temp_store = FILE",
        "cache_size = -32000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def damaged(path: Path | str, what: str) -> GateClosed:
    """The refusal of a ledger that is not what it was; ``what`` is a clause."""
    return GateClosed(
        f"{path}: {what}",
        "restore the run directory from a copy, or plan a new run from the original input"
        " (faces that are already gone cost one call per person)",
    )


def _recognise(connection: apsw.Connection, path: Path, *, checked: bool) -> None:
    application_id = connection.pragma("application_id")
    version = connection.pragma("user_version")
    if not connection.pragma("page_count"):
        raise damaged(path, "the ledger is an empty file")
    if application_id != APPLICATION_ID:
        raise damaged(path, "this is a SQLite file, but not a ledger of facepurge")
    if version != SCHEMA_VERSION:
        raise GateClosed(
            f"{path}: the ledger has format {version}, this program knows format {SCHEMA_VERSION}",
            "use the version of facepurge that wrote it (see its report/summary.json)",
        )
    sealed = query(connection, "SELECT value FROM run WHERE key = 'seal'").fetchone()
    if sealed != (facts_seal(connection),):
        raise damaged(path, "the ledger is damaged (its run is not the one that was planned)")
    if checked:
        return
    if path.stat().st_size <= READ_AT_ONCE_BYTES:
        read_through(connection, path)
    else:
        _require_its_end(connection, path)


def _require_its_end(connection: apsw.Connection, path: Path) -> None:
    """Raise ``GateClosed`` where the file is shorter than it says; SQLite reads nothing as zeros."""
    whole_bytes = connection.pragma("page_count") * connection.pragma("page_size")
    # Asked in this order: whoever takes the log away has made the file as long before.
    if not path.with_name(f"{FILE_NAME}-wal").exists() and path.stat().st_size < whole_bytes:
        raise damaged(path, "the ledger is damaged (a part of it is missing at its end)")


def read_through(connection: apsw.Connection, path: Path) -> None:
    """Raise ``GateClosed`` where the file is not whole, or a block is not what was written or missing.

    The facts that were fixed with the plan must have been found to be those.
    """
    _require_its_end(connection, path)
    (complaint,) = query(connection, "PRAGMA quick_check(1)").fetchone()
    if complaint != "ok":
        raise damaged(path, f"the ledger is damaged ({str(complaint).splitlines()[-1]})")
    facts = {key: json.loads(value) for key, value in query(connection, "SELECT * FROM run")}
    for kind, blocks in SEALED_BLOCKS.items():
        what = "calls" if kind == "plan" else "rows"
        run_id = facts["run_id"] if kind == "plan" else ""
        follows = 0
        for *counts, data, sealed in query(connection, blocks):
            first, count = counts[:2]
            # Amendments are of some rows only.
            gap = kind != "amendments" and first != follows
            if gap or seal_of(kind, run_id, counts, data) != sealed:
                raise _not_planned(path, what, follows if gap else first)
            follows = first + count
        if kind != "amendments" and follows != facts.get(what):
            raise _not_planned(path, what, follows)
    frontier = query(connection, BEFORE_FRONTIER).fetchone()
    if frontier is None or (frontier[0] and frontier[1] is None):
        raise damaged(path, "the ledger is damaged (it does not say where its calls go on)")


def _not_planned(path: Path, what: str, first: int) -> GateClosed:
    return damaged(
        path, f"the ledger is damaged (its {what} from {first} on are not what was planned)"
    )


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
        raise damaged(path, f"the ledger is damaged ({error})") from error
    except apsw.Error as error:
        raise GateClosed(
            f"{path}: the ledger cannot be opened ({error})",
            "check the owner, the permissions and the free space of the run directory"
            + ("" if writable else "; of an archive that nobody may write, take a copy first"),
        ) from error
    return connection
