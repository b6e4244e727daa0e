"""One contract for both writers, and what the thread adds to it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from worker.errors import LedgerFailed
from worker.ledger.writer import InlineWriter, ThreadWriter, Writer

MakeWriter = Callable[[apsw.Connection], Writer]


def opened(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS mark (n INTEGER)")
    return connection


def mark(number: int) -> Callable[[apsw.Connection], int]:
    def write(connection: apsw.Connection) -> int:
        connection.execute("INSERT INTO mark VALUES (?)", (number,))
        return number * 10

    return write


def broken(connection: apsw.Connection) -> int:
    connection.execute("INSERT INTO mark VALUES (-1)")
    return 1 // 0


def marks(path: Path) -> list[int]:
    """What another connection sees: only what is committed."""
    connection = apsw.Connection(str(path))
    try:
        return [n for (n,) in connection.execute("SELECT n FROM mark ORDER BY rowid")]
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture(params=[ThreadWriter, InlineWriter])
async def writer(path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Writer]:
    make: MakeWriter = request.param
    one = make(opened(path))
    yield one
    await one.close()


async def test_a_write_is_durable_when_its_future_is_done(writer: Writer, path: Path) -> None:
    assert await writer.submit(mark(1)) == 10
    assert marks(path) == [1]


async def test_writes_keep_their_order_and_get_their_own_results(
    writer: Writer, path: Path
) -> None:
    futures = [writer.submit(mark(number)) for number in range(500)]
    assert await asyncio.gather(*futures) == [number * 10 for number in range(500)]
    assert marks(path) == list(range(500))


async def test_after_a_failed_write_nothing_is_written_any_more(writer: Writer, path: Path) -> None:
    await writer.submit(mark(1))
    failing = writer.submit(broken)
    later = writer.submit(mark(2))
    with pytest.raises(LedgerFailed, match="ZeroDivisionError") as failed:
        await failing
    assert str(path) in failed.value.cause
    assert "resume" in failed.value.remedy
    with pytest.raises(LedgerFailed):
        await later
    with pytest.raises(LedgerFailed):
        await writer.submit(mark(3))
    assert marks(path) == [1]


async def test_a_failure_that_speaks_for_itself_is_passed_on(writer: Writer) -> None:
    def damaged(_: apsw.Connection) -> None:
        raise LedgerFailed("call 7 is not what was planned", "restore it")

    with pytest.raises(LedgerFailed, match="call 7"):
        await writer.submit(damaged)
    with pytest.raises(LedgerFailed, match="call 7"):
        await writer.submit(mark(1))


async def test_a_full_database_fails_everything_after_it(writer: Writer, path: Path) -> None:
    await writer.submit(lambda c: c.execute("PRAGMA max_page_count = 1"))
    blob = b"x" * 100_000
    with pytest.raises(LedgerFailed, match="FullError"):
        await writer.submit(lambda c: c.execute("INSERT INTO mark VALUES (?)", (blob,)))
    with pytest.raises(LedgerFailed, match="FullError"):
        await writer.submit(mark(1))
    assert marks(path) == []


async def test_a_waiter_that_gives_up_does_not_take_its_write_back(
    writer: Writer, path: Path
) -> None:
    async def wait() -> None:
        await writer.submit(mark(7))

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert await writer.submit(mark(8)) == 80
    assert marks(path) == [7, 8]


async def test_nobody_has_to_fetch_a_failure(writer: Writer) -> None:
    """A waiter cancelled by its task group leaves a failed future behind: no warning for that."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for _ in range(3):
        writer.submit(broken)
    with pytest.raises(LedgerFailed):
        await writer.submit(mark(1))
    gc.collect()
    assert complaints == []


async def test_closing_waits_for_everything_submitted(writer: Writer, path: Path) -> None:
    futures = [writer.submit(mark(number)) for number in range(200)]
    await writer.close()
    assert marks(path) == list(range(200))
    assert [await future for future in futures][-1] == 1990


async def test_a_closed_writer_says_so_instead_of_waiting_for_ever(
    writer: Writer, path: Path
) -> None:
    await writer.close()
    async with asyncio.timeout(5):
        with pytest.raises(LedgerFailed, match="Closed"):
            await writer.submit(mark(1))
    assert marks(path) == []


async def test_a_busy_thread_commits_whatever_has_queued_up_at_once(path: Path) -> None:
    """While one commit waits, the next writes share a transaction."""
    connection = opened(path)
    commits = 0

    def count() -> bool:
        nonlocal commits
        commits += 1
        return False

    connection.set_commit_hook(count)
    writer = ThreadWriter(connection)
    busy, go_on = threading.Event(), threading.Event()

    def slow(c: apsw.Connection) -> int:
        busy.set()
        assert go_on.wait(5)
        return mark(0)(c)

    first = writer.submit(slow)
    assert await asyncio.to_thread(busy.wait, 5)
    rest = [writer.submit(mark(number)) for number in range(1, 100)]
    go_on.set()
    await asyncio.gather(first, *rest)
    await writer.close()
    assert commits == 2
    assert marks(path) == list(range(100))


async def test_a_failure_takes_back_what_shared_its_transaction(path: Path) -> None:
    """None of a batch is durable when its commit is given up, so none of it is said to be."""
    writer = ThreadWriter(opened(path))
    busy, go_on = threading.Event(), threading.Event()

    def slow(c: apsw.Connection) -> int:
        busy.set()
        assert go_on.wait(5)
        return mark(0)(c)

    first = writer.submit(slow)
    assert await asyncio.to_thread(busy.wait, 5)
    batch = [writer.submit(write) for write in (mark(1), broken, mark(2))]
    go_on.set()
    assert await first == 0
    for future in batch:
        with pytest.raises(LedgerFailed):
            await future
    await writer.close()
    assert marks(path) == [0]


async def test_the_loop_goes_on_while_the_disk_is_slow(path: Path) -> None:
    writer = ThreadWriter(opened(path))
    go_on = threading.Event()
    pending = writer.submit(lambda c: go_on.wait(5))
    await asyncio.sleep(0)  # only a loop that is not blocked gets here
    assert not pending.done()
    go_on.set()
    assert await pending
    await writer.close()


async def test_cancelling_the_close_does_not_cut_a_write_short(path: Path) -> None:
    writer = ThreadWriter(opened(path))
    go_on = threading.Event()

    def slow(c: apsw.Connection) -> int:
        assert go_on.wait(5)
        return mark(5)(c)

    pending = writer.submit(slow)
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    go_on.set()
    assert await pending == 50
    assert marks(path) == [5]
    await writer.close()


def test_a_thread_that_outlives_its_loop_is_silent(path: Path) -> None:
    """The second signal ends the loop while the disk is still busy."""
    writer: ThreadWriter | None = None
    go_on = threading.Event()

    def slow(c: apsw.Connection) -> int:
        assert go_on.wait(5)
        return mark(5)(c)

    async def leave() -> None:
        nonlocal writer
        writer = ThreadWriter(opened(path))
        writer.submit(slow)

    asyncio.run(leave())
    assert writer is not None
    go_on.set()
    writer._queue.put(None)
    writer._thread.join(5)
    assert not writer._thread.is_alive()
    assert marks(path) == [5]
