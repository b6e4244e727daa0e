"""Which files are accepted as a ledger: ours, whole, of this version; everything else is named."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest

from tests.core.rig import RUN_ID, draft_run, lines, persons, rows
from tests.ledger.audit import rows as select
from tests.ledger.errands import begin, begun
from tests.ledger.power import power_may_go
from worker.errors import GateClosed, LedgerDamaged, LedgerFailed
from worker.holds import Holds
from worker.ledger import collation, rowmap
from worker.ledger.books import LedgerBooks
from worker.ledger.columns import packed, unpacked
from worker.ledger.database import FILE_NAME, SCHEMA_VERSION, open_ledger, require_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter, ThreadWriter
from worker.model import Entry, Evidence, Kind, Step

PAIRS = persons(12, 3)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    draft_run(tmp_path / "run", [rows(PAIRS)])
    return tmp_path / "run"


def refusal(run_dir: Path) -> GateClosed:
    with pytest.raises(GateClosed) as refused:
        open_ledger(run_dir)
    assert str(run_dir) in refused.value.cause
    assert refused.value.remedy
    return refused.value


def test_our_own_is_accepted(run_dir: Path) -> None:
    for read_only in (True, False):
        open_ledger(run_dir, read_only=read_only).close()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        draft_run(tmp_path / "run", [rows(PAIRS)])
        connection = open_ledger(tmp_path / "run")
        connection.execute("INSERT INTO hold VALUES ('x', '')")
        modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "run").iterdir()}
        connection.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys([FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"], 0o600)


def test_a_reader_cannot_write(run_dir: Path) -> None:
    connection = open_ledger(run_dir, read_only=True)
    with pytest.raises(apsw.ReadOnlyError):
        connection.execute("DELETE FROM face")
    connection.close()


def test_ids_are_kept_by_strict_text_columns(run_dir: Path) -> None:
    connection = open_ledger(run_dir)
    strict = dict(
        connection.execute("SELECT name, strict FROM pragma_table_list WHERE type = 'table'")
    )
    assert all(strict[name] for name in strict if not name.startswith("sqlite_"))
    connection.close()


def test_a_missing_ledger(tmp_path: Path) -> None:
    with pytest.raises(GateClosed, match="there is no ledger of a run here"):
        require_ledger(tmp_path)
    assert "no ledger" in refusal(tmp_path / "nowhere").cause


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert "no ledger" in refusal(tmp_path).cause


def test_a_symbolic_link_in_its_place(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE_NAME).symlink_to(run_dir / FILE_NAME)
    assert "no ledger" in refusal(tmp_path / "other").cause


def test_a_symbolic_link_on_the_way_is_fine(run_dir: Path, tmp_path: Path) -> None:
    """Runs may live on another disk, reached through a link."""
    (tmp_path / "link").symlink_to(run_dir.parent)
    open_ledger(tmp_path / "link" / "run").close()


@pytest.mark.parametrize(
    "content", [b"person_id,face_id\np1,1\n" * 99, b"SQLite format 4\x00" * 99, os.urandom(5000)]
)
def test_a_file_that_is_not_sqlite(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert "the ledger is damaged" in refusal(tmp_path).cause
    assert (tmp_path / FILE_NAME).read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"SQLite format 3"])
def test_a_file_with_nothing_in_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    refusal(tmp_path)


def test_a_sqlite_file_of_somebody_else(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("CREATE TABLE face (id)")
    connection.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    assert "not a ledger of facepurge" in refusal(tmp_path).cause
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_another_version(run_dir: Path, version: int) -> None:
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    refused = refusal(run_dir)
    assert f"format {version}" in refused.cause
    assert "the version of facepurge that wrote it" in refused.remedy


def test_cut_short_anywhere(run_dir: Path) -> None:
    path = run_dir / FILE_NAME
    whole = path.read_bytes()
    for size in range(0, len(whole) - 4096, 1000):
        path.write_bytes(whole[:size])
        refusal(run_dir)


def test_pages_of_zeros(run_dir: Path) -> None:
    path = run_dir / FILE_NAME
    whole = path.read_bytes()
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        refusal(run_dir)


async def _claimed(run_dir: Path) -> list[tuple[str, str]]:
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    try:
        books.header()
        books.holds()
    finally:
        books.close()
    ledger = Ledger(open_ledger(run_dir), InlineWriter)
    try:
        await ledger.close_open_attempts(1)
        pairs = []
        while attempt := await begin(ledger):
            pairs += [(attempt.call.person_id, face_id) for face_id in attempt.call.face_ids]
        return pairs
    finally:
        await ledger.close()


async def test_a_flipped_byte_never_sends_anything_else(run_dir: Path, tmp_path: Path) -> None:
    """S1 on a bad disk: refused with a sentence, or nothing leaves that was not planned."""
    original = (run_dir / FILE_NAME).read_bytes()
    filled = [position for position, byte in enumerate(original) if byte]
    chance = random.Random(20)
    planned = set(PAIRS)
    refused = 0
    for number, position in enumerate(chance.sample(filled, 250)):
        damaged = bytearray(original)
        damaged[position] ^= 1 << chance.randrange(8)
        copy = tmp_path / str(number)
        copy.mkdir()
        (copy / FILE_NAME).write_bytes(damaged)
        try:
            assert set(await _claimed(copy)) <= planned, position
        except (GateClosed, LedgerFailed):
            refused += 1
        shutil.rmtree(copy)
    assert refused > 50


UNREADABLE = """
import os, sys
from pathlib import Path
from worker.errors import GateClosed
from worker.ledger.database import open_ledger
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    open_ledger(Path(sys.argv[1]))
except GateClosed as error:
    print(error.cause, error.remedy)
"""


@pytest.mark.parametrize(("directory", "file"), [(0o555, 0o444), (0o555, 0o000)])
def test_a_directory_without_the_right_to_write(run_dir: Path, directory: int, file: int) -> None:
    """As another user, because root may do everything.

    In a place of its own: every start of pytest closes the one where its tests live.
    """
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        copy = Path(place, "run")
        shutil.copytree(run_dir, copy)
        (copy / FILE_NAME).chmod(file)
        copy.chmod(directory)
        said = subprocess.run(
            [sys.executable, "-c", UNREADABLE, str(copy)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        copy.chmod(0o700)
    assert "the ledger cannot be opened" in said
    assert "permissions" in said


def test_the_run_is_named_in_its_ledger(run_dir: Path) -> None:
    books = LedgerBooks(open_ledger(run_dir, read_only=True))
    assert books.value("run_id") == RUN_ID
    books.close()


async def test_what_was_called_durable_survives_the_power(tmp_path: Path) -> None:
    """Not only the death of the process: what is not synced by then is gone with the power."""
    run_dir, kept = tmp_path / "run", tmp_path / "kept"
    draft_run(run_dir, [rows(persons(3))])
    with power_may_go(run_dir, kept):
        writer = ThreadWriter(open_ledger(run_dir))
        for number in range(3):
            hold = ("INSERT INTO hold VALUES (?, '')", (f"person{number}",))
            await writer.submit(methodcaller("execute", *hold))
            shutil.copytree(kept, tmp_path / str(number))
        await writer.close()
    for number in range(3):
        connection = open_ledger(tmp_path / str(number))
        assert len(connection.execute("SELECT * FROM hold").fetchall()) == number + 1
        connection.close()


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE face SET face_id = '999' WHERE first_row = 0",
        "UPDATE face SET first_row = 1 WHERE first_row = 0",
        "UPDATE face SET first_row = 2 WHERE first_row = 0",
        "UPDATE face SET first_row = 3 WHERE first_row = 1",
        "UPDATE face SET first_row = 99 WHERE first_row = 1",
    ],
)
async def test_a_row_that_names_another_face_is_refused_before_anything_is_said_of_it(
    tmp_path: Path, spoil: str
) -> None:
    entries = rows([("p", "1"), ("p", "2"), ("p", "1"), ("q", "3")])
    draft_run(tmp_path, [[*entries, Entry(4, 6, "", "r", "", "empty face", "", "")]])
    ledger = Ledger(open_ledger(tmp_path), InlineWriter)
    await begun(ledger)
    await ledger.close()
    assert len(lines(tmp_path)) == 5
    connection = open_ledger(tmp_path)
    connection.execute(spoil)
    assert connection.changes() == 1
    connection.close()
    with pytest.raises(GateClosed, match="a face is not where its row says"):
        lines(tmp_path)


# Blocks


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with some blocks of each kind."""
    monkeypatch.setattr(collation, "CALLS_PER_BLOCK", 2)
    monkeypatch.setattr(collation, "AMENDMENTS_PER_BLOCK", 2)
    monkeypatch.setattr(rowmap, "ROWS_PER_BLOCK", 4)
    entries = rows([*PAIRS[:15], *PAIRS[:3], ("held", "1"), ("person0", "1"), ("q", "8")])
    entries[3] = entries[3]._replace(reason="bad", column="face_id", face_id="")
    draft_run(tmp_path / "run", [entries], holds=Holds(frozenset({("held", "1")}), "x"))
    return tmp_path / "run"


KINDS = ("row_block", "amendment_block", "plan_block")


@contextmanager
def spoiled(run_dir: Path) -> Iterator[apsw.Connection]:
    """As a bad disk or a person would: without the program."""
    connection = apsw.Connection(str(run_dir / FILE_NAME))
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.parametrize("column", ["data", "seal"])
@pytest.mark.parametrize("table", KINDS)
def test_every_flipped_byte_of_a_block_is_refused(blocks: Path, table: str, column: str) -> None:
    with spoiled(blocks) as connection:
        written = select(connection, READ.format(column=column, table=table))
        assert len(written) > 1
        for rowid, data in written:
            for position in range(len(data)):
                flipped = bytearray(data)
                flipped[position] ^= 1 << position % 8
                connection.execute(WRITE.format(column=column, table=table), (flipped, rowid))
                assert "are not what was planned" in refusal(blocks).cause
            connection.execute(WRITE.format(column=column, table=table), (data, rowid))
    open_ledger(blocks).close()


READ = "SELECT rowid, {column} FROM {table}"
WRITE = "UPDATE {table} SET {column} = ? WHERE rowid = ?"


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE row_block SET first_row = 99 WHERE first_row = 4",
        "UPDATE row_block SET rows = rows + 1 WHERE first_row = 4",
        "UPDATE row_block SET invalid = 0",
        "UPDATE amendment_block SET first_row = first_row + 50",
        "UPDATE amendment_block SET rows = rows - 1",
        "UPDATE plan_block SET first_call_no = 99 WHERE first_call_no = 2",
        "UPDATE plan_block SET calls = 1 WHERE first_call_no = 2",
        "UPDATE plan_block SET persons = persons + 1",
        "UPDATE plan_block SET faces = faces + 1",
    ],
)
def test_what_a_block_says_of_itself_is_sealed_with_it(blocks: Path, spoil: str) -> None:
    with spoiled(blocks) as connection:
        connection.execute(spoil)
        assert connection.changes()
    assert "are not what was planned" in refusal(blocks).cause


@pytest.mark.parametrize("table", KINDS)
def test_a_block_that_still_can_be_read_is_refused_for_what_it_says(
    blocks: Path, table: str
) -> None:
    """Its columns are whole; one of them is another."""
    with spoiled(blocks) as connection:
        rowid, data = select(connection, READ.format(column="data", table=table))[-1]
        before = unpacked(data)
        name, number = next((x, y) for x, y in before.items() if isinstance(y, int))
        changed = packed({**before, name: number + 1})
        assert unpacked(changed)[name] == number + 1
        connection.execute(WRITE.format(column="data", table=table), (changed, rowid))
    assert "are not what was planned" in refusal(blocks).cause


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM row_block WHERE first_row = (SELECT MIN(first_row) FROM row_block)",
        "DELETE FROM row_block WHERE first_row = (SELECT MAX(first_row) FROM row_block)",
        "DELETE FROM plan_block WHERE first_call_no = 2",
        "DELETE FROM plan_block WHERE first_call_no = (SELECT MAX(first_call_no) FROM plan_block)",
    ],
)
def test_a_block_that_is_not_there_is_missed(blocks: Path, spoil: str) -> None:
    with spoiled(blocks) as connection:
        connection.execute(spoil)
    assert "are not what was planned" in refusal(blocks).cause


@pytest.mark.parametrize("call_no", [1, 5, 10**6])
def test_a_frontier_beyond_what_was_begun_is_refused(blocks: Path, call_no: int) -> None:
    """Calls between would never be made, and nobody would miss them."""
    with spoiled(blocks) as connection:
        connection.execute("UPDATE frontier SET call_no = ?", (call_no,))
    assert "where its calls go on" in refusal(blocks).cause


async def test_blocks_that_change_while_a_run_is_at_work_send_nothing(blocks: Path) -> None:
    """What is in flight is recorded all the same, and holds reach what can still be read."""
    ledger = Ledger(open_ledger(blocks), InlineWriter)
    (seq, first, _), _ = await begun(ledger), await begun(ledger)
    with spoiled(blocks) as connection:
        (sound,) = select(connection, "SELECT data FROM plan_block WHERE first_call_no = 2")
        connection.execute("UPDATE plan_block SET data = x'00' WHERE first_call_no = 2")
    for _ in range(2):
        assert await ledger.due([Step.DELETE], 0) == 0
        with pytest.raises(LedgerDamaged, match="its calls from 2 on are not what was planned"):
            await begin(ledger)
    with pytest.raises(LedgerDamaged):
        await ledger.hold(frozenset({(first.person_id, ""), ("q", "")}))
    assert (await ledger.tally())["held"] == 1
    with spoiled(blocks) as connection:
        connection.execute("UPDATE plan_block SET data = ? WHERE first_call_no = 2", sound)
    with pytest.raises(LedgerDamaged):
        await begin(ledger)
    await ledger.record(seq, first, Evidence(Kind.LISTED, 2, 1, listed=first.face_ids))
    assert (await ledger.tally())["deleted"] == len(first.face_ids)
    await ledger.close()
    open_ledger(blocks).close()
