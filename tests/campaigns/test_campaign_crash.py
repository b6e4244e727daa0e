"""The crash sweep's short version, and proof that its judge and its disk can find something."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.campaigns.crash import WAYS
from tests.campaigns.deaths import Death, die
from tests.campaigns.fate import Deed, Fate, Place
from tests.campaigns.judgement import Attempt, judge_completed, sent_again
from tests.campaigns.lanes import Job, Lane, in_lanes
from tests.campaigns.page_cache import PageCache
from worker.sandbox.journal import Entry
from worker.sandbox.world import Change

JOB = Job(6, concurrency=3)

IN_FLIGHT = Fate(point=3, stroke="die after", deeds=(Deed.SEND,))


async def one(fate: Fate, job: Job = JOB) -> Death:
    (death,) = await in_lanes([fate], partial(die, job=job), lanes=1)
    return death


@pytest.mark.campaign
async def test_wherever_a_run_dies_it_goes_on_to_the_truth() -> None:
    """`make crash` does this at every point."""
    fates = [
        msgspec.structs.replace(WAYS[number % len(WAYS)], point=point, seed=point)
        for number, point in enumerate((20, 62, 70, 85, 100, 115, 130, 145))
    ]
    deaths = await in_lanes(fates, partial(die, job=JOB))
    assert not [death.violations for death in deaths if death.violations]
    assert sum(bool(death.struck) for death in deaths) >= 6


@pytest.mark.campaign
async def test_killed_and_powered_off_with_a_request_on_its_way() -> None:
    fates = [msgspec.structs.replace(IN_FLIGHT, loss=way.loss) for way in WAYS[1:]]
    deaths = await in_lanes(fates, partial(die, job=JOB))
    for death in deaths:
        assert death.struck == "send network"
        assert 1 <= death.left_open <= death.in_flight <= JOB.concurrency
        assert not death.violations


async def test_a_disk_that_lies_about_its_syncs_is_found_out() -> None:
    """D1 cannot hold there; a sweep that saw nothing wrong would see nothing."""
    death = await one(msgspec.structs.replace(IN_FLIGHT, loss="unsynced", lying=True))
    assert "a request before the plan was durable" in {v.what for v in death.violations}
    shutil.rmtree(death.kept)


async def test_every_write_is_a_point_of_one_counter() -> None:
    async def count(lane: Lane, fate: Fate) -> None:
        async with lane.trial(JOB) as run:
            ended = await run.launch(*run.run, fate=fate)
            assert ended.code == 0, ended.err
            numbers = [point.number for point in ended.trace.points if point.number]
            assert numbers == list(range(1, len(numbers) + 1))
            if not fate.deeds:
                assert {point.place for point in ended.trace.points} >= set(Place) - {
                    Place.TEMPORARY
                }
                sent = ended.trace.kinds["send network"]
                assert sent == len(run.service.entries) == len(ended.trace.requests_seconds) == 6
                # A commit is on the disk before and after each request.
                assert ended.trace.kinds["sync log"] >= 6
                assert ended.trace.in_flight == 0
            else:
                assert set(ended.trace.kinds) == {"send network"}
                assert not run.service.journal.lines[len(numbers) + 1 :]
            assert not judge_completed(run.run_dir, run.pairs, run.service)

    await in_lanes([Fate(), Fate(deeds=(Deed.SEND,)), Fate(loss="torn")], count)


async def test_the_judge_sees_a_face_that_is_not_gone_and_one_that_is_missing() -> None:
    async def tamper(lane: Lane, _nothing: None) -> None:
        async with lane.trial(JOB) as run:
            assert (await run.launch(*run.run)).code == 0
            person, face = run.pairs[0]
            run.service.world.apply(Change(person, added=(face,)))
            violations = judge_completed(run.run_dir, run.pairs, run.service)
            assert [violation.kind for violation in violations] == ["false"]
            missing = [*run.pairs, ("person-7", "7")]
            violations = judge_completed(run.run_dir, missing, run.service)
            assert {violation.kind for violation in violations} == {"false", "lost", "other"}

    await in_lanes([None], tamper)


def attempt(
    seq: int, kind: str, *, listed: str = "", nonce: str = "", operation: str = "DeleteFaces"
) -> Attempt:
    faces = frozenset({"1"})
    return Attempt(seq, operation, "p", faces, nonce, seq + 1, kind, frozenset(listed))


def arrival(nonce: str, *, served: bool = True) -> Entry:
    return Entry(
        sequence=1,
        seconds=0.0,
        at_us=0,
        operation="DeleteFaces",
        person_id="p",
        face_ids=("1",),
        deleted=(),
        status=200,
        code="",
        fault="",
        nonce=nonce,
        access_key_id="",
        request_id="",
        served=served,
    )


@pytest.mark.parametrize(
    ("between", "kinds"),
    [
        ([attempt(3, "shown", listed="1", operation="GetPerson")], []),
        ([attempt(3, "shown", operation="GetPerson")], ["twice"]),
        ([attempt(3, "ambiguous", listed="1", operation="GetPerson")], ["twice"]),
        ([], ["twice"]),
    ],
    ids=["still listed", "not listed", "looked in vain", "not looked"],
)
def test_only_a_lookup_that_lists_the_face_is_a_cause_to_send_again(
    between: list[Attempt], kinds: list[str]
) -> None:
    attempts = [
        attempt(1, "closed", nonce="a"),
        *between,
        attempt(5, "listed", listed="1", nonce="b"),
    ]
    violations = sent_again(attempts, [arrival("a"), arrival("b")])
    assert [violation.kind for violation in violations] == kinds
    assert not list(sent_again(attempts, [arrival("a", served=False), arrival("b")]))
    assert [v.kind for v in sent_again(attempts, [arrival("c")])] == ["other"]


# The disk that forgets


def cached(tmp_path: Path, loss: str, *, seed: int = 0) -> tuple[PageCache, str]:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    fate = msgspec.convert({"loss": loss, "seed": seed}, Fate)
    return PageCache(fate), str(path)


def test_what_was_not_synced_is_gone_and_what_was_is_there(tmp_path: Path) -> None:
    cache, path = cached(tmp_path, "unsynced")
    cache.file(path).write(b"NEW", 3)
    assert cache.file(path).read(10, 0) == b"oldNEW"
    cache.synced(path)
    cache.file(path).truncate(1)
    cache.file(path).write(b"...", 4)
    assert cache.file(path).read(10, 0) == b"o\0\0\0..."
    cache.forget()
    assert Path(path).read_bytes() == b"oldNEW"


def test_a_torn_write_leaves_whole_sectors_in_any_choice(tmp_path: Path) -> None:
    seen = set()
    for seed in range(40):
        cache, path = cached(tmp_path, "torn", seed=seed)
        cache.file(path).write(b"A" * 512 + b"B" * 512, 0)
        cache.forget()
        content = Path(path).read_bytes()
        seen.add((content[:512].rstrip(b"\0")[:3], content[512:][:3]))
    assert seen == {(b"old", b""), (b"AAA", b""), (b"AAA", b"BBB"), (b"old", b"BBB")}


def test_names_come_back_until_their_directory_is_synced(tmp_path: Path) -> None:
    cache, path = cached(tmp_path, "unsynced")
    draft, final, log = tmp_path / "draft", tmp_path / "final", tmp_path / "log"
    for synced in (False, True):
        draft.write_bytes(b"new")
        final.write_bytes(b"before")
        log.write_bytes(b"log")
        cache.renaming(str(draft), str(final))
        draft.rename(final)
        cache.deleting(str(log))
        log.unlink()
        if synced:
            cache.synced(str(tmp_path))
        cache.forget()
        assert final.read_bytes() == (b"new" if synced else b"before")
        assert draft.exists() is log.exists() is not synced
    cache.appended(path)
    cache.forget()
    assert Path(path).read_bytes() == b""
