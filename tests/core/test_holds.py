"""The exclusion list: what it may look like, and that it only grows while a run depends on it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from worker.errors import GateClosed, InputRefused
from worker.holds import Grammar, Hold, HoldWatch, read_holds

PERSON = ("p1", "")
PAIR = ("p1", "31842550077981745")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", set()),
        (b"p1\n", {PERSON}),
        (b"p1", {PERSON}),
        (b"p1,31842550077981745\n", {PAIR}),
        (b"p1,0042\n", {("p1", "0042")}),
        (b"\xef\xbb\xbfp1\n", {PERSON}),
        (b"p1\r\np1,31842550077981745\r\n", {PERSON, PAIR}),
        (b"# court order 7\n\n   \n  # more\np1\n", {PERSON}),
        (b"p1\np1\np1\n", {PERSON}),
        ("pé\n".encode(), {("pé", "")}),
        (b"\xef\xbb\xbf", set()),
    ],
)
def test_what_a_list_says(tmp_path: Path, content: bytes, expected: set[Hold]) -> None:
    path = tmp_path / "holds.txt"
    path.write_bytes(content)
    holds = read_holds(path)
    assert holds.entries == expected
    assert holds.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"p1\nperson 7x\n", "holds.txt:2: ' ' is not expected in an ID"),
        (b"p1\np/7\n", "holds.txt:2: no row can have this person ID"),
        (b"p1,1.24445E+12\n", "holds.txt:1: no row can have this face ID"),
        ("p1,١٢\n".encode(), "holds.txt:1: no row can have this face ID"),
    ],
)
def test_a_hold_that_no_row_can_match_is_a_typing_error(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "holds.txt"
    path.write_bytes(content)
    with pytest.raises(InputRefused) as refused:
        read_holds(path, Grammar("[A-Za-z0-9_-]{1,32}", "[0-9]{1,32}"))
    assert complaint in refused.value.cause
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"p1,1,2\n", "holds.txt:1: more than one comma"),
        (b"p0\n p1\n", "holds.txt:2: an ID is empty or has spaces around it"),
        (b"p1 \n", "holds.txt:1: an ID is empty or has spaces around it"),
        (b"p1, 1\n", "holds.txt:1: an ID is empty or has spaces around it"),
        (b",1\n", "holds.txt:1: an ID is empty or has spaces around it"),
        ("p1\u00a0\n".encode(), "holds.txt:1: an ID is empty or has spaces around it"),
        (b"p1,\n", "holds.txt:1: the face after the comma is missing"),
        (b"p1,\r\n", "holds.txt:1: the face after the comma is missing"),
        (b"p\x001\n", "holds.txt:1: a control character"),
        (b"p1\rp2\n", "holds.txt:1: a control character"),
        ("p1\u200b\n".encode(), "holds.txt:1: a control character"),
        (b"p1\xff\n", "not UTF-8 (byte 2)"),
        (b"p1,1 # court order\n", "holds.txt:1: ' ' is not expected in an ID"),
        (b"p1,1#x\n", "holds.txt:1: '#' is not expected in an ID"),
        (b'"p1","1"\n', "holds.txt:1: '\"' is not expected in an ID"),
        (b"p1;1\n", "holds.txt:1: ';' is not expected in an ID"),
        (b"p1\t1\n", "holds.txt:1: a control character"),
        ("p1\n".encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_line_that_is_not_understood_is_never_skipped(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "holds.txt"
    path.write_bytes(content)
    with pytest.raises(InputRefused) as refused:
        read_holds(path)
    assert complaint in refused.value.cause
    assert refused.value.remedy


def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"nowhere\.txt: .*No such file"):
        read_holds(tmp_path / "nowhere.txt")
    with pytest.raises(InputRefused, match="Is a directory"):
        read_holds(tmp_path)


class Keeper:
    """Takes additions and remembers them."""

    def __init__(self) -> None:
        self.additions: list[frozenset[Hold]] = []

    async def hold(self, additions: frozenset[Hold]) -> int:
        await asyncio.sleep(0)
        self.additions.append(additions)
        return len(additions)


class Watched:
    """A list on disk, and the watch over it."""

    def __init__(self, path: Path, text: str = "p1\n") -> None:
        self.path = path
        self.version = 0
        self.write(text)
        self.keeper = Keeper()
        self.watch = HoldWatch(path, read_holds(path).entries, self.keeper)

    def write(self, text: str) -> None:
        """Put a new text there; every version has a time of its own, without waiting for one."""
        self.path.write_text(text)
        self.version += 1
        os.utime(self.path, ns=(self.version, self.version))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "holds.txt")


async def test_additions_are_taken_over_once(watched: Watched) -> None:
    await watched.watch.check()
    assert watched.keeper.additions == []
    watched.write("p1\np2\np3,7\n")
    await watched.watch.check()
    await watched.watch.check()
    assert watched.keeper.additions == [{("p2", ""), ("p3", "7")}]
    watched.write("p1\np2\np3,7\np4\n")
    await watched.watch.check()
    assert watched.keeper.additions[1:] == [{("p4", "")}]


async def test_an_addition_before_the_first_look_counts(watched: Watched) -> None:
    """Between the plan and the first claim somebody added a line."""
    watched.write("p1\np2\n")
    await watched.watch.check()
    assert watched.keeper.additions == [{("p2", "")}]


async def test_loops_that_look_at_the_same_time_take_it_over_once(watched: Watched) -> None:
    watched.write("p1\np2\n")
    await asyncio.gather(*(watched.watch.check() for _ in range(9)))
    assert watched.keeper.additions == [{("p2", "")}]


async def test_a_list_replaced_by_rename_with_the_same_size_and_time_is_seen(
    watched: Watched,
) -> None:
    await watched.watch.check()
    before = watched.path.stat()
    fresh = watched.path.with_suffix(".new")
    fresh.write_text("p2\n")
    os.utime(fresh, ns=(before.st_mtime_ns, before.st_mtime_ns))
    fresh.rename(watched.path)
    with pytest.raises(GateClosed, match="1 entry of the"):
        await watched.watch.check()


async def test_a_removal_is_refused_at_every_look(watched: Watched) -> None:
    watched.write("p1\np2\n")
    await watched.watch.check()
    watched.write("p3\n")
    for _ in range(2):
        with pytest.raises(GateClosed, match=r"2 entries of the exclusion list disappeared"):
            await watched.watch.check()
    assert watched.keeper.additions == [{("p2", "")}]


async def test_order_comments_and_repeats_are_no_change(watched: Watched) -> None:
    watched.write("# a note\np1\np1\n")
    await watched.watch.check()
    assert watched.keeper.additions == []


async def test_a_list_that_vanishes_stops_new_calls(watched: Watched) -> None:
    await watched.watch.check()
    watched.path.unlink()
    for _ in range(2):
        with pytest.raises(GateClosed, match=r"can no longer be read \(No such file"):
            await watched.watch.check()


async def test_a_list_that_cannot_be_understood_any_more_stops_new_calls(watched: Watched) -> None:
    await watched.watch.check()
    watched.write("p1\np2,,\n")
    for _ in range(2):
        with pytest.raises(InputRefused, match=r"holds\.txt:2"):
            await watched.watch.check()
    assert watched.keeper.additions == []


async def test_a_list_that_becomes_a_directory_stops_new_calls(watched: Watched) -> None:
    await watched.watch.check()
    watched.path.unlink()
    watched.path.mkdir()
    with pytest.raises(InputRefused, match="cannot be read"):
        await watched.watch.check()


async def test_additions_that_could_not_be_kept_are_offered_again(watched: Watched) -> None:
    class Broken(Keeper):
        async def hold(self, additions: frozenset[Hold]) -> int:
            await super().hold(additions)
            raise OSError("disk")

    broken = Broken()
    watch = HoldWatch(watched.path, frozenset({PERSON}), broken)
    watched.write("p1\np2\n")
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            await watch.check()
    assert broken.additions == [{("p2", "")}] * 2
