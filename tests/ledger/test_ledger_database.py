"""Which files are accepted as a ledger: ours, whole, of this version; everything else is named."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest

from tests.core.rig import RUN_ID, draft_run, persons, rows
from tests.ledger.power import power_may_go
from worker.errors import GateClosed, LedgerFailed
from worker.ledger.books import LedgerBooks
from worker.ledger.database import FILE_NAME, SCHEMA_VERSION, open_ledger, require_ledger
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter, ThreadWriter
from worker.model import Step

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
        while call := await ledger.claim([Step.DELETE], 0):
            pairs += [(call.person_id, face_id) for face_id in call.face_ids]
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
        "UPDATE row SET face_id = '999' WHERE row_no = 0",
        "UPDATE row SET person_id = 'somebody' WHERE row_no = 0",
        "UPDATE row SET face_id = '999' WHERE row_no = (SELECT row_no FROM repeat)",
        "UPDATE row SET person_id = 'somebody' WHERE row_no = (SELECT row_no FROM repeat)",
        "UPDATE call SET person_id = 'somebody'",
    ],
)
def test_a_row_that_names_another_face_is_refused_before_anything_is_said_of_it(
    tmp_path: Path, spoil: str
) -> None:
    draft_run(tmp_path, [rows([("p", "1"), ("p", "2"), ("p", "1")])])
    connection = open_ledger(tmp_path)
    connection.execute(spoil)
    connection.close()
    with pytest.raises(GateClosed, match="a row is not of the face that it was read for"):
        open_ledger(tmp_path, read_only=True)
