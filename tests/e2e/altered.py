"""Ledgers changed behind the program's back, and plans whose birth was moved: cheaper than to wait."""

from __future__ import annotations

from pathlib import Path

import apsw

from worker.ledger.database import FILE_NAME, facts_seal

HOUR_US = 3_600_000_000


def altered(plan: Path, statement: str, bindings: tuple[apsw.SQLiteValue, ...] = ()) -> None:
    """Change the ledger; its facts are sealed again."""
    connection = apsw.Connection(str(plan / FILE_NAME))
    connection.execute(statement, bindings)
    connection.execute("UPDATE run SET value = ? WHERE key = 'seal'", (facts_seal(connection),))
    connection.close()


def aged(plan: Path, hours: float) -> None:
    """Make it older."""
    altered(
        plan,
        "UPDATE run SET value = CAST(value AS INTEGER) - ? WHERE key = 'planned_us'",
        (round(hours * HOUR_US),),
    )


def facts(plan: Path) -> list[tuple[apsw.SQLiteValue, ...]]:
    """What was fixed with the plan, and its exclusion list."""
    connection = apsw.Connection(str(plan / FILE_NAME))
    try:
        return connection.execute("SELECT * FROM run UNION ALL SELECT * FROM hold").fetchall()
    finally:
        connection.close()
