"""Planning against an obviously right model in plain Python, and against dying and full disks."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.rig import RUN_ID, draft_run, lines, persons, rows
from worker.cli.run_directory import make_run_directory
from worker.errors import FacepurgeError, GateClosed
from worker.holds import NO_HOLDS, Hold, Holds
from worker.ledger.database import DRAFT_NAME, FILE_NAME, open_ledger
from worker.ledger.draft import LedgerDraft
from worker.ledger.journal import Ledger
from worker.ledger.writer import InlineWriter
from worker.model import Entry, SourceSummary
from worker.plan import PlanFigures, Rejection

ROOT = Path(__file__).parents[2]


@dataclass
class Model:
    """What a plan has to say, worked out the slow and obvious way."""

    states: list[str]
    """One per row: invalid, held, conflict, or unsent for what is sent."""
    firsts: list[int | None]
    """For a repeated row, the number of the first row of its pair."""
    calls: list[tuple[str, list[str]]]
    persons: dict[str, list[str]]


def model(entries: Sequence[Entry], holds: frozenset[Hold], size: int) -> Model:
    readable = [e for e in entries if not e.reason]
    owners: dict[str, set[str]] = {}
    for e in readable:
        owners.setdefault(e.face_id, set()).add(e.person_id)
    states: list[str] = []
    firsts: list[int | None] = []
    first_row: dict[tuple[str, str], int] = {}
    to_send: dict[str, list[str]] = {}
    for number, e in enumerate(entries):
        pair = (e.person_id, e.face_id)
        firsts.append(None if e.reason else first_row.get(pair))
        if e.reason:
            states.append("invalid")
            continue
        if (e.person_id, "") in holds or pair in holds:
            states.append("held")
        elif len(owners[e.face_id]) > 1:
            states.append("conflict")
        else:
            states.append("unsent")
            if pair not in first_row:
                to_send.setdefault(e.person_id, []).append(e.face_id)
        first_row.setdefault(pair, number)
    calls = [
        (person_id, faces[start : start + size])
        for person_id, faces in to_send.items()
        for start in range(0, len(faces), size)
    ]
    return Model(states, firsts, calls, to_send)


async def claims(run_dir: Path) -> list[tuple[str, list[str]]]:
    """Every call, in the order in which a run with one loop would send them."""
    connection = open_ledger(run_dir)
    ledger = Ledger(connection, InlineWriter)
    calls = []
    while call := await ledger.claim():
        calls.append((call.person_id, list(call.face_ids)))
        connection.execute("UPDATE call SET state = 2 WHERE call_no = ?", (call.call_no,))
    await ledger.close()
    return calls


PERSONS = ["ann", "Ann", "ben", "0ben"]
FACES = ["1", "01", "001", "31842550077981745", "31842550077981746", "9" * 32]


@st.composite
def sources(draw: st.DrawFn) -> list[list[Entry]]:
    named = []
    for _ in range(draw(st.integers(1, 3))):
        record = -1
        entries: list[Entry] = []
        for person_id, face_id, same, bad in draw(
            st.lists(
                st.tuples(
                    st.sampled_from(PERSONS),
                    st.sampled_from(FACES),
                    st.booleans(),
                    st.sampled_from(["", "", "", "", "empty face", "not a number"]),
                ),
                max_size=25,
            )
        ):
            record += not (same and entries)
            column = "face_id" if bad == "not a number" else ""
            entries.append(
                Entry(record, record + 2, "", person_id, "" if column else face_id, bad, column, "")
            )
        named.append(entries)
    return named


held = st.frozensets(st.tuples(st.sampled_from(PERSONS), st.sampled_from(["", *FACES])), max_size=2)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sources(), held, st.sampled_from([1, 2, 3, 20]))
async def test_a_plan_is_what_the_model_says(
    named: list[list[Entry]], holds: frozenset[Hold], size: int
) -> None:
    entries = [e for source in named for e in source]
    places = [f"s{no}.csv:{e.line}" for no, source in enumerate(named) for e in source]
    expected = model(entries, holds, size)
    with TemporaryDirectory() as directory:
        run_dir = Path(directory, "run")
        figures = draft_run(run_dir, named, holds=Holds(holds, "x"), faces_per_call=size)
        told = lines(run_dir)
        calls = await claims(run_dir)

    assert calls == expected.calls
    states = Counter(expected.states)
    sizes = [len(faces) for faces in expected.persons.values()]
    reasons = Counter(e.reason for e in entries if e.reason)

    def elsewhere(entry: Entry) -> str:
        return next(
            place
            for place, e in zip(places, entries, strict=True)
            if not e.reason and e.face_id == entry.face_id and e.person_id != entry.person_id
        )

    rejected = [
        Rejection(
            f"{place}:{e.column}" if e.column else place,
            e.reason or f"the same face is under another person at {elsewhere(e)}",
        )
        for place, e, state in zip(places, entries, expected.states, strict=True)
        if state in {"invalid", "conflict"}
    ]
    assert figures == PlanFigures(
        rows=len(entries),
        records=sum(len({e.record for e in source}) for source in named),
        blank_lines=0,
        persons=len(expected.persons),
        faces=sum(sizes),
        calls=len(expected.calls),
        repeats=sum(first is not None for first in expected.firsts),
        held=states["held"],
        conflicts=states["conflict"],
        invalid=states["invalid"],
        invalid_by_reason=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        rejections=tuple(rejected[:20]),
        oversized_persons=sum(count > size for count in sizes),
        largest_person_faces=max(sizes, default=0),
    )
    assert [(t.person_id, t.face_id, t.outcome) for t in told] == [
        (e.person_id, e.face_id, state) for e, state in zip(entries, expected.states, strict=True)
    ]
    assert [t.duplicate_of for t in told] == [
        "" if first is None else places[first] for first in expected.firsts
    ]
    assert [f"{t.source}:{t.line}" for t in told] == places


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True)
)
@settings(max_examples=30, deadline=None)
async def test_ids_survive_byte_for_byte(ids: list[str]) -> None:
    """Whatever the configured grammar lets through: text in, the same text out."""
    pairs = [("p" + text, text + str(number)) for number, text in enumerate(ids)]
    with TemporaryDirectory() as directory:
        run_dir = Path(directory, "run")
        draft_run(run_dir, [rows(pairs)])
        assert await claims(run_dir) == [(person_id, [face_id]) for person_id, face_id in pairs]


@pytest.mark.parametrize(
    "face_id", ["007", "0", "00", "31842550077981745", "1" * 32, "1e5", "0x10", "1.0", "-1", " 1"]
)
async def test_nothing_that_looks_like_a_number_becomes_one(tmp_path: Path, face_id: str) -> None:
    draft_run(tmp_path, [rows([("0001", face_id)])])
    assert await claims(tmp_path) == [("0001", [face_id])]
    assert (lines(tmp_path)[0].person_id, lines(tmp_path)[0].face_id) == ("0001", face_id)


async def test_one_call_for_each_person_up_to_twenty_faces(tmp_path: Path) -> None:
    """Shuffled over the input, each person is still one call; the twenty-first face begins another."""
    pairs = sorted(persons(9, 20), key=lambda pair: pair[1][::-1])
    figures = draft_run(tmp_path, [rows([*pairs, ("person3", "999")])])
    assert (figures.persons, figures.faces, figures.calls) == (9, 181, 10)
    assert (figures.oversized_persons, figures.largest_person_faces) == (1, 21)
    sizes = Counter(len(faces) for _, faces in await claims(tmp_path))
    assert sizes == {20: 9, 1: 1}


def test_only_the_first_rejections_are_shown_and_all_can_be_read(tmp_path: Path) -> None:
    bad = [e._replace(face_id="", reason=f"r{e.record % 3}") for e in rows(persons(50))]
    with LedgerDraft(tmp_path) as draft:
        draft.add_entries(0, bad)
        draft.add_source(0, SourceSummary("s.csv", "csv", "", 1, 50, 50, 4, ()))
        figures = draft.arrange(RUN_ID, 20)
        assert len(figures.rejections) == 20
        assert len(list(draft.rejections())) == 50
        assert figures.invalid_by_reason == (("r0", 17), ("r1", 17), ("r2", 16))
        assert (figures.calls, figures.blank_lines) == (0, 4)


async def test_a_plan_larger_than_its_batches(tmp_path: Path) -> None:
    pairs = persons(8000, 2)
    figures = draft_run(tmp_path, [rows([*pairs, *pairs])])
    assert (figures.rows, figures.faces, figures.repeats) == (32_000, 16_000, 16_000)
    told = lines(tmp_path)
    assert [t.duplicate_of for t in told[16_000:]] == [
        f"{t.source}:{t.line}" for t in told[:16_000]
    ]


def test_a_rehearsal_begins_with_every_readable_person(tmp_path: Path) -> None:
    entries = rows([("b", "2"), ("a", "1"), ("b", "1"), ("b", "2"), ("h", "7")])
    entries.append(Entry(9, 11, "", "x", "", "empty face", "", ""))
    with LedgerDraft(tmp_path) as draft:
        draft.add_entries(0, entries)
        draft.add_source(0, SourceSummary("s0.csv", "csv", "0" * 64, 1, 6, 6, 0, ()))
        draft.add_holds(Holds(frozenset({("h", "")}), "x"))
        draft.arrange(RUN_ID, 20)
        assert list(draft.world()) == [("a", ["1"]), ("b", ["1", "2"]), ("h", ["7"])]


def test_a_plan_that_is_not_sealed_leaves_nothing(tmp_path: Path) -> None:
    with LedgerDraft(tmp_path) as draft:
        draft.add_entries(0, rows(persons(5)))
        assert [path.name for path in tmp_path.iterdir()] == [DRAFT_NAME]
        assert (tmp_path / DRAFT_NAME).stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []


def test_a_plan_given_up_with_an_error_leaves_nothing(tmp_path: Path) -> None:
    def give_up(draft: LedgerDraft) -> None:
        draft.add_entries(0, rows(persons(5)))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), LedgerDraft(tmp_path) as draft:
        give_up(draft)
    assert list(tmp_path.iterdir()) == []


PLAN_AND_WAIT = """
import sys
from pathlib import Path
from tests.core.rig import RUN_ID, persons, rows
from worker.ledger.draft import LedgerDraft
draft = LedgerDraft(Path(sys.argv[1]))
draft.add_entries(0, rows(persons(2000)))
if sys.argv[2] == "arranged":
    draft.arrange(RUN_ID, 20)
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("moment", ["reading", "arranged"])
def test_killed_while_planning(tmp_path: Path, moment: str) -> None:
    """No ledger exists then, and the next start in the same directory works."""
    with subprocess.Popen(
        [sys.executable, "-c", PLAN_AND_WAIT, str(tmp_path), moment],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [DRAFT_NAME]
    with pytest.raises(GateClosed, match="there is no ledger of a run here"):
        open_ledger(tmp_path)
    make_run_directory(tmp_path)
    draft_run(tmp_path, [rows(persons(3))])
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert len(asyncio.run(claims(tmp_path))) == 3


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.core.rig import RUN_ID, draft_run, persons, rows
from worker.errors import FacepurgeError
from worker.holds import Holds
from worker.ledger.database import DRAFT_NAME, FILE_NAME
from worker.ledger.draft import LedgerDraft
from worker.model import SourceSummary

run_dir = Path(sys.argv[1])
entries = rows(persons(3000))
holds = Holds(frozenset((f"person{n}", "") for n in range(0, 3000, 3)), "x")
limit, steps = 1024, set()
while True:
    step = "opening"
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with LedgerDraft(run_dir) as draft:
            draft._connection.execute("PRAGMA cache_size = 5")
            step = "rows"
            for start in range(0, 3000, 500):
                draft.add_entries(0, entries[start:start + 500])
            step = "source"
            draft.add_source(0, SourceSummary("s", "csv", "", 1, 1, 1, 0, ("x" * 50_000,)))
            step = "holds"
            draft.add_holds(holds)
            step = "arrange"
            draft.arrange(RUN_ID, 20)
            step = "seal"
            draft.seal({"run_id": RUN_ID, "settings": "y" * 50_000})
        break
    except FacepurgeError as error:
        assert "the plan could not be written" in error.cause, error.cause
        assert "nothing was sent" in error.cause
        assert "make room" in error.remedy
        steps.add(step)
        left = [path.name for path in run_dir.iterdir()]
        assert left == ([DRAFT_NAME] if step == "opening" else []), (limit, left)
    limit = int(limit * 1.1)
assert [path.name for path in run_dir.iterdir()] == [FILE_NAME]
print(*sorted(steps))
"""


def test_a_full_disk_at_any_step_is_a_sentence_and_no_ledger(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["arrange", "holds", "opening", "rows", "seal", "source"]


@pytest.mark.parametrize("obstacle", ["a file", "nowhere"])
def test_a_place_that_cannot_hold_a_plan_is_named(tmp_path: Path, obstacle: str) -> None:
    place = tmp_path / obstacle
    if obstacle == "a file":
        place.write_text("")
    with pytest.raises(FacepurgeError, match="the plan could not be written") as refused:
        LedgerDraft(place)
    assert str(place) in refused.value.cause
    assert "--run-dir" in refused.value.remedy


def test_a_link_in_the_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / DRAFT_NAME).symlink_to(victim)
    draft_run(tmp_path / "run", [rows(persons(3))])
    assert victim.read_text() == "precious"


def test_holds_without_an_entry_take_nothing_out(tmp_path: Path) -> None:
    assert draft_run(tmp_path, [rows(persons(3))], holds=NO_HOLDS).held == 0
