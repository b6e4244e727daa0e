"""Planning against an obviously right model in plain Python, and against dying and full disks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.rig import RUN_ID, draft_run, lines, persons, rows
from tests.ledger.errands import begin
from worker.cli.run_directory import make_run_directory
from worker.errors import GateClosed
from worker.holds import NO_HOLDS, Hold, Holds
from worker.ledger.database import DRAFT_NAME, FILE_NAME, WAITING, open_ledger, seal
from worker.ledger.draft import LedgerDraft, no_room_remedy
from worker.ledger.journal import Ledger
from worker.ledger.unrolling import unrolled
from worker.ledger.writer import InlineWriter
from worker.model import Call, Entry, SourceSummary, Step
from worker.plan import PlanFigures, Rejection

ROOT = Path(__file__).parents[2]

FACE = "00000000"
"""How the faces of the first of the rig's persons begin."""


@dataclass
class Model:
    """What a plan has to say, worked out the slow and obvious way."""

    states: list[str]
    """One per row: invalid, held, conflict, or unsent for what is sent or looked up."""
    firsts: list[int | None]
    """For a repeated row, the number of the first row of its pair."""
    calls: list[tuple[str, list[str]]]
    """A person of whom everything is to go has exactly one, with all faces that are named."""
    persons: dict[str, list[str]]
    """The named faces to be sent of each person, which may be none."""
    whole: set[str]


def model(entries: Sequence[Entry], holds: frozenset[Hold], size: int) -> Model:
    readable = [e for e in entries if not e.reason]
    owners: dict[str, set[str]] = {}
    for e in readable:
        if not e.whole:
            owners.setdefault(e.face_id, set()).add(e.person_id)
    states: list[str] = []
    firsts: list[int | None] = []
    first_row: dict[tuple[str, str], int] = {}
    to_send: dict[str, list[str]] = {}
    whole: set[str] = set()
    for number, e in enumerate(entries):
        pair = (e.person_id, e.face_id)
        firsts.append(None if e.reason else first_row.get(pair))
        if e.reason:
            states.append("invalid")
            continue
        if (e.person_id, "") in holds or pair in holds:
            states.append("held")
        elif e.whole:
            states.append("unsent")
            to_send.setdefault(e.person_id, [])
            whole.add(e.person_id)
        elif len(owners[e.face_id]) > 1:
            states.append("conflict")
        else:
            states.append("unsent")
            if pair not in first_row:
                to_send.setdefault(e.person_id, []).append(e.face_id)
        first_row.setdefault(pair, number)
    calls = []
    for person_id, faces in to_send.items():
        if person_id in whole:
            calls.append((person_id, faces))
            continue
        calls += [(person_id, faces[start : start + size]) for start in range(0, len(faces), size)]
    return Model(states, firsts, calls, to_send, whole)


async def claims(run_dir: Path) -> list[tuple[str, list[str]]]:
    """Every call in the plan's order, claimed as a run with one loop would claim them.

    One without faces is about a whole person of whom none is named.
    """
    connection = open_ledger(run_dir)
    ledger = Ledger(connection, InlineWriter)
    claimed: list[Call] = []
    while attempt := await begin(ledger, [Step.DELETE, Step.LOOKUP]):
        call = attempt.call
        assert (call.step is Step.LOOKUP) == (not call.face_ids)
        assert call.whole or call.face_ids
        claimed.append(call)
        connection.execute("UPDATE call SET state = 2 WHERE call_no = ?", (call.call_no,))
    await ledger.close()
    for step in Step:
        numbers = [call.call_no for call in claimed if call.step is step]
        assert numbers == sorted(numbers)
    claimed.sort(key=lambda call: call.call_no)
    assert [call.call_no for call in claimed] == list(range(len(claimed)))
    return [(call.person_id, list(call.face_ids)) for call in claimed]


PERSONS = ["ann", "Ann", "ben", "0ben"]
FACES = ["1", "01", "001", "31842550077981745", "31842550077981746", "9" * 32]


@st.composite
def sources(draw: st.DrawFn) -> list[list[Entry]]:
    named = []
    for _ in range(draw(st.integers(1, 3))):
        record = -1
        entries: list[Entry] = []
        for person_id, face_id, same, kind in draw(
            st.lists(
                st.tuples(
                    st.sampled_from(PERSONS),
                    st.sampled_from(FACES),
                    st.booleans(),
                    st.sampled_from(["", "", "", "", "whole", "empty face", "not a number"]),
                ),
                max_size=25,
            )
        ):
            record += not (same and entries)
            whole = kind == "whole"
            bad = "" if whole else kind
            column = "face_id" if bad == "not a number" else ""
            shown = "" if column or whole else face_id
            entries.append(Entry(record, record + 2, "", person_id, shown, bad, column, "", whole))
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
        connection = open_ledger(run_dir)
        indexed = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'face_face'")
        assert indexed.fetchall() == [(bool(expected.whole),)]
        tally = connection.execute("SELECT faces FROM tally").fetchall()
        connection.close()
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
        whole_persons=len(expected.whole),
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
    in_ledger = sum(sizes) + len(expected.whole)
    assert tally == ([(in_ledger,)] if in_ledger else [])
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
        draft.add(0, bad)
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


async def test_everything_of_a_person_is_one_call_with_the_named_faces(
    tmp_path: Path,
) -> None:
    entries = [
        Entry(0, 2, "", "ann", "", "", "", "", whole=True),
        *(e._replace(record=e.record + 1, line=e.line + 1) for e in rows(persons(1, 3))),
        Entry(4, 6, "", "person0", "", "", "", "", whole=True),
        Entry(5, 7, "", "ann", "", "", "", "", whole=True),
        Entry(6, 8, "", "ann", "77", "", "", ""),
    ]
    figures = draft_run(tmp_path, [entries], faces_per_call=2)
    assert (figures.persons, figures.whole_persons, figures.faces) == (2, 2, 4)
    assert (figures.calls, figures.repeats, figures.largest_person_faces) == (2, 1, 3)
    connection = open_ledger(tmp_path)
    calls = connection.execute(
        "SELECT person_id, whole, state, step, not_before_us, seal FROM call"
    )
    assert list(calls) == [
        ("ann", 1, WAITING, "delete", 0, seal(RUN_ID, 0, "ann", ["", "77"])),
        (
            "person0",
            1,
            WAITING,
            "delete",
            0,
            seal(RUN_ID, 1, "person0", ["", FACE + "00", FACE + "01", FACE + "02"]),
        ),
    ]
    faces = connection.execute(
        "SELECT call_no, first_row, face_id, found_by, step, outcome FROM face"
    )
    # Both were begun with the plan: nobody else can look for what they have.
    assert list(faces) == [
        (0, 0, "", None, "", "unsent"),
        (0, 6, "77", None, "delete", "unsent"),
        (1, 4, "", None, "", "unsent"),
        (1, 1, FACE + "00", None, "delete", "unsent"),
        (1, 2, FACE + "01", None, "delete", "unsent"),
        (1, 3, FACE + "02", None, "delete", "unsent"),
    ]
    with unrolled(connection):
        assert connection.execute("SELECT row_no, first_row FROM repeat").fetchall() == [(5, 0)]
    assert connection.execute("SELECT * FROM tally").fetchall() == [("unsent", 6)]
    connection.close()
    assert [(t.line, t.face_id, t.outcome, t.duplicate_of) for t in lines(tmp_path)] == [
        (2, "", "unsent", ""),
        (3, FACE + "00", "unsent", ""),
        (4, FACE + "01", "unsent", ""),
        (5, FACE + "02", "unsent", ""),
        (6, "", "unsent", ""),
        (7, "", "unsent", "s0.csv:2"),
        (8, "77", "unsent", ""),
    ]
    assert await claims(tmp_path) == [
        ("ann", ["77"]),
        ("person0", [FACE + "00", FACE + "01", FACE + "02"]),
    ]


@pytest.mark.parametrize(
    ("pairs", "frontier"),
    [
        ([("w", ""), ("x", ""), ("p", "1"), ("y", "")], 2),
        ([("p", "1"), ("w", "")], 0),
        ([("w", ""), ("x", "")], 2),
        ([("p", "1")], 0),
    ],
)
def test_who_was_begun_with_the_plan_is_not_counted_among_the_rest(
    tmp_path: Path, pairs: list[tuple[str, str]], frontier: int
) -> None:
    """Where everybody is a whole person, a resume has nothing to look through."""
    draft_run(tmp_path, [rows(pairs)])
    connection = open_ledger(tmp_path)
    assert connection.execute("SELECT call_no FROM frontier").fetchall() == [(frontier,)]
    connection.close()


@pytest.mark.parametrize(
    ("hold", "held", "faces"), [(("ann", ""), 2, 1), (("ann", "1"), 1, 1), (("ben", ""), 1, 1)]
)
def test_a_hold_on_one_face_does_not_hold_the_whole_person(
    tmp_path: Path, hold: Hold, held: int, faces: int
) -> None:
    """Whether the person has that face is known only when it is found."""
    entries = rows([("ann", "1"), ("ben", "2")])
    entries.append(Entry(2, 4, "", "ann", "", "", "", "", whole=True))
    figures = draft_run(tmp_path, [entries], holds=Holds(frozenset({hold}), "x"))
    assert (figures.held, figures.faces) == (held, faces)
    assert figures.whole_persons == (0 if hold == ("ann", "") else 1)
    assert lines(tmp_path)[2].outcome == ("held" if hold == ("ann", "") else "unsent")


def test_whole_persons_are_in_no_conflict_with_one_another(tmp_path: Path) -> None:
    """All their lines have the same, empty face."""
    entries = [Entry(n, n + 2, "", f"p{n}", "", "", "", "", whole=True) for n in range(3)]
    figures = draft_run(tmp_path, [[*entries, Entry(3, 5, "", "q", "1", "", "", "")]])
    assert (figures.conflicts, figures.whole_persons, figures.persons) == (0, 3, 4)


def made_up(tmp_path: Path, entries: list[Entry]) -> dict[str, list[str]]:
    with LedgerDraft(tmp_path) as draft:
        draft.add(0, entries)
        draft.add_source(0, SourceSummary("s0.csv", "csv", "0" * 64, 1, 6, 6, 0, ()))
        draft.add_holds(Holds(frozenset({("held", "")}), "x"))
        draft.arrange(RUN_ID, 20)
        return dict(draft.world())


def test_a_rehearsal_has_something_to_find_of_whole_persons(tmp_path: Path) -> None:
    whole = [
        Entry(n, n + 2, "", person_id, "", "", "", "", whole=True)
        for n, person_id in enumerate(["zoe", "ann", "held", "zoe", "ann"])
    ]
    named = Entry(5, 7, "", "ann", "5", "", "", "")
    world = made_up(tmp_path, [*whole, named])
    assert world == {
        "ann": ["5"],
        "held": ["1000000000006", "1000000000007", "1000000000008"],
        "zoe": ["1000000000000", "1000000000001", "1000000000002"],
    }
    assert made_up(tmp_path, [*whole, named]) == world


@given(st.frozensets(st.integers(10**12, 10**12 + 40), max_size=30), st.integers(1, 9))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_faces_that_are_made_up_are_never_those_of_the_input(
    tmp_path: Path, numbers: frozenset[int], count: int
) -> None:
    taken = [str(number) for number in sorted(numbers)] + ["1" * 32, "1", "x" * 13, "9" * 13]
    entries = rows([("named", face_id) for face_id in taken])
    entries += [
        Entry(n, n, "", f"p{n}", "", "", "", "", whole=True) for n in range(100, 100 + count)
    ]
    world = made_up(tmp_path, entries)
    found = [
        face_id for person_id, faces in world.items() if person_id != "named" for face_id in faces
    ]
    assert len(set(found)) == len(found) == 3 * count
    assert not set(found) & set(taken)
    assert all(len(face_id) == 13 and face_id.isdecimal() for face_id in found)


def test_every_stretch_with_a_face_of_the_input_is_passed_over(tmp_path: Path) -> None:
    """Three rows, so nine numbers in a stretch; the third row has the last three of each."""
    base = 10**12
    entries = rows([("named", str(base)), ("named", str(base + 15))])
    entries.append(Entry(2, 4, "", "whole", "", "", "", "", whole=True))
    assert made_up(tmp_path, entries)["whole"] == [str(base + n) for n in (24, 25, 26)]


def test_a_rehearsal_begins_with_every_readable_person(tmp_path: Path) -> None:
    entries = rows([("b", "2"), ("a", "1"), ("b", "1"), ("b", "2"), ("h", "7")])
    entries.append(Entry(9, 11, "", "x", "", "empty face", "", ""))
    with LedgerDraft(tmp_path) as draft:
        draft.add(0, entries)
        draft.add_source(0, SourceSummary("s0.csv", "csv", "0" * 64, 1, 6, 6, 0, ()))
        draft.add_holds(Holds(frozenset({("h", "")}), "x"))
        draft.arrange(RUN_ID, 20)
        assert list(draft.world()) == [("a", ["1"]), ("b", ["1", "2"]), ("h", ["7"])]


def test_a_plan_that_is_not_sealed_leaves_nothing(tmp_path: Path) -> None:
    with LedgerDraft(tmp_path) as draft:
        draft.add(0, rows(persons(5)))
        assert [path.name for path in tmp_path.iterdir()] == [DRAFT_NAME]
        assert (tmp_path / DRAFT_NAME).stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []


def test_a_plan_given_up_with_an_error_leaves_nothing(tmp_path: Path) -> None:
    def give_up(draft: LedgerDraft) -> None:
        draft.add(0, rows(persons(5)))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), LedgerDraft(tmp_path) as draft:
        give_up(draft)
    assert list(tmp_path.iterdir()) == []


PLAN_AND_WAIT = """
import sys
from pathlib import Path
from tests.core.rig import RUN_ID, persons, rows
from worker.ledger.draft import LedgerDraft
draft = LedgerDraft(Path(sys.argv[1])).__enter__()
draft.add(0, rows(persons(2000)))
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
from worker.errors import GateClosed
from worker.holds import Holds
from worker.ledger import rowmap
from worker.ledger.database import FILE_NAME
from worker.ledger.draft import LedgerDraft
from worker.model import SourceSummary

rowmap.ROWS_PER_BLOCK = 50
run_dir = Path(sys.argv[1])
entries = rows(persons(3000))
holds = Holds(frozenset((f"person{n}", "x" * 50) for n in range(3000)), "x")
limit, steps = 1024, set()
while True:
    step = "opening"
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with LedgerDraft(run_dir) as draft:
            draft._connection.execute("PRAGMA cache_size = 5")
            step = "rows"
            for start in range(0, 3000, 500):
                draft.add(0, entries[start:start + 500])
            step = "source"
            draft.add_source(0, SourceSummary("s", "csv", "", 1, 1, 1, 0, ("x" * 50_000,)))
            step = "holds"
            draft.add_holds(holds)
            step = "arrange"
            draft.arrange(RUN_ID, 20)
            step = "seal"
            draft.seal({"run_id": RUN_ID, "settings": "y" * 50_000})
        break
    except GateClosed as error:
        assert "the plan could not be written" in error.cause, error.cause
        assert "nothing was sent" in error.cause
        assert "make room" in error.remedy
        steps.add(step)
        left = [path.name for path in run_dir.iterdir()]
        assert left == [], (limit, left)
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
    with pytest.raises(GateClosed, match="the plan could not be written") as refused:
        LedgerDraft(place).__enter__()
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


def test_rows_are_numbered_from_nought_and_say_what_they_ask_for(tmp_path: Path) -> None:
    entries = rows([("ann", "1"), ("ann", "2"), ("ben", "2"), ("cid", "3")])
    entries[1] = entries[1]._replace(record=0)
    entries.append(Entry(5, 9, "", "dan", "", "", "", "", whole=True))
    entries.append(Entry(6, 9, "", "eve", "", "face ID is empty", "face_id", ""))
    draft_run(tmp_path, [entries], holds=Holds(frozenset({("cid", "")}), "x"))
    connection = open_ledger(tmp_path)
    with unrolled(connection):
        told = connection.execute("SELECT row_no, record_no, fate FROM row").fetchall()
    connection.close()
    assert told == [
        (0, 0, ""),
        (1, 0, "conflict"),
        (2, 1, "conflict"),
        (3, 2, "held"),
        (4, 3, "whole"),
        (5, 4, "invalid"),
    ]


def test_a_plan_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave a ledger that lacks rows, or take its name back."""
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        sync(descriptor)
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"rename {path.name} {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    draft_run(tmp_path, [rows(persons(3))])
    assert done == [
        f"sync {DRAFT_NAME}",
        f"rename {DRAFT_NAME} {FILE_NAME}",
        f"sync {tmp_path.name}",
    ]


def held_open(directory: Path) -> list[str]:
    """The files and directories below ``directory`` that this process has open."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            targets.append(str(link.readlink()))
    return [target for target in targets if target.startswith(str(directory))]


def test_nothing_stays_open(tmp_path: Path) -> None:
    with LedgerDraft(tmp_path) as given_up:
        given_up.add(0, rows(persons(3)))
        assert held_open(tmp_path)
    assert held_open(tmp_path) == []
    with LedgerDraft(tmp_path) as sealed:
        sealed.add(0, rows(persons(3)))
        sealed.add_source(0, SourceSummary("s.csv", "csv", "", 1, 3, 3, 0, ()))
        sealed.arrange(RUN_ID, 20)
        sealed.seal({"run_id": RUN_ID})
        assert held_open(tmp_path) == []


def test_a_draft_that_somebody_removed_hides_no_other_error(tmp_path: Path) -> None:
    def give_up() -> None:
        (tmp_path / DRAFT_NAME).unlink()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), LedgerDraft(tmp_path):
        give_up()


@pytest.mark.parametrize("flag", ["TMPDIR", "--run-dir DIR"])
def test_the_remedy_for_a_full_disk_names_the_place_that_would_help(flag: str) -> None:
    remedy = f"make room or choose another place with {flag}, then start again"
    assert no_room_remedy(flag) == remedy
