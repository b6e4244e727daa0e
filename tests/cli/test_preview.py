"""What a plan says about due times and doubtful IDs, line by line."""

from __future__ import annotations

import pytest

from worker.cli.preview import plan_document, plan_lines
from worker.deadlines import Forecast, LateJob, Schedule, due_us
from worker.plan import PlanFigures
from worker.settings import Settings

START_US = due_us("2026-11-30T22:00:00Z")
NOTHING_LATE = Forecast(
    schedule=Schedule(START_US, 19.8),
    persons=1_234,
    late_persons=0,
    past_due_persons=0,
    late_jobs=0,
    past_due_jobs=0,
    first_late=(),
    last_due_call_us=due_us("2026-11-30T22:01:02Z"),
    needed_rate_per_second=0.2,
    latest_start_us=due_us("2026-12-01T08:00Z"),
)
DUE = "  due              1,234   persons go first, the last at 2026-11-30 22:01:02 UTC"


def figures(forecast: Forecast | None, warnings: tuple[str, ...] = ()) -> PlanFigures:
    return PlanFigures(
        rows=1, records=1, blank_lines=0, persons=1, whole_persons=0, faces=1, calls=1, repeats=0,
        held=0, conflicts=0, invalid=0, invalid_by_reason=(), rejections=(), oversized_persons=0,
        largest_person_faces=1, forecast=forecast, warnings=warnings,
    )  # fmt: skip


def lines(forecast: Forecast | None, warnings: tuple[str, ...] = ()) -> list[str]:
    """What is said beyond the plan without due times and warnings."""
    plain = plan_lines(figures(None), Settings(), "https://e", "1")
    said = plan_lines(figures(forecast, warnings), Settings(), "https://e", "1")
    assert [line for line in said if line in plain] == plain
    return [line for line in said if line not in plain]


def late(**changed: object) -> Forecast:
    values: dict[str, object] = {
        name: getattr(NOTHING_LATE, name) for name in NOTHING_LATE.__dataclass_fields__
    }
    return Forecast(**{**values, **changed})  # type: ignore[arg-type]


def test_everything_in_time() -> None:
    start = "  in time   with a start by 2026-12-01 08:00:00 UTC at 19.8 calls/s"
    assert lines(NOTHING_LATE) == [DUE, start]
    assert lines(None) == []


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (19.801, "19.81 calls/s from now on"),
        (20.0, "20.00 calls/s from now on"),
        (1234.5, "1,234.50 calls/s from now on; 20 are documented"),
    ],
)
def test_what_is_late_with_the_rate_and_the_start_it_would_take(rate: float, said: str) -> None:
    job = LateJob("a.csv:7", START_US + 1_500_000, START_US + 3_999_999)
    forecast = late(
        late_persons=1,
        late_jobs=21,
        first_late=(job,) * 20,
        needed_rate_per_second=rate,
        latest_start_us=START_US - 60_000_000,
    )
    place = "  a.csv:7: due 2026-11-30 22:00:01 UTC, would be sent 2026-11-30 22:00:03 UTC"
    assert lines(forecast) == [
        DUE,
        "  late                21   jobs of 1 person cannot make it",
        f"  needed    {said}",
        "  or        a start by 2026-11-30 21:59:00 UTC at 19.8 calls/s",
        *[place] * 20,
        "  ... and 1 more job late",
    ]


def test_what_is_past_due_is_told_apart() -> None:
    past = LateJob("a.csv:2", due_us("0001-01-01"), START_US)
    other = LateJob("a.csv:9", START_US + 1, START_US + 2_000_000)
    forecast = late(
        late_persons=3,
        past_due_persons=2,
        late_jobs=4,
        past_due_jobs=2,
        first_late=(past, other),
        needed_rate_per_second=21.0,
    )
    said = lines(forecast)
    assert "jobs of 3 persons cannot make it, 2 past due already" in said[1]
    assert said[2] == "  needed    for the rest, 21.00 calls/s from now on; 20 are documented"
    assert said[4] == "  a.csv:2: was due 0001-01-02 00:00:00 UTC"
    assert said[5].startswith("  a.csv:9: due 2026-11-30 22:00:00 UTC, would be sent ")
    assert said[6] == "  ... and 2 more jobs late"


def test_nothing_helps_what_is_past_due() -> None:
    past = LateJob("a.csv:2", START_US - 1, START_US)
    values = {"late_persons": 1, "past_due_persons": 1, "late_jobs": 1, "past_due_jobs": 1}
    alone = late(**values, first_late=(past,), latest_start_us=None, needed_rate_per_second=0.0)
    assert lines(alone) == [
        DUE,
        "  late                 1   jobs of 1 person cannot make it, 1 past due already",
        "  a.csv:2: was due 2026-11-30 21:59:59 UTC",
    ]
    with_others = lines(late(**values, first_late=(past,)))
    assert (
        "  in time   the rest, with a start by 2026-12-01 08:00:00 UTC at 19.8 calls/s"
        in with_others
    )


def test_times_beyond_the_calendar_are_cut_to_its_ends() -> None:
    forecast = late(last_due_call_us=10**20, latest_start_us=-(10**20))
    said = lines(forecast)
    assert said[0].endswith("9999-12-31 23:59:59 UTC")
    assert " by 0001-01-01 00:00:00 UTC " in said[1]


def test_doubts_are_said_after_everything_else() -> None:
    assert lines(None, ("a.csv: one", "b.csv: two")) == [
        "  warning   a.csv: one",
        "  warning   b.csv: two",
    ]


def test_programs_are_told_the_same() -> None:
    job = LateJob("a.csv:7", START_US + 1_500_000, START_US + 3_000_000)
    forecast = late(late_persons=1, late_jobs=1, first_late=(job,), latest_start_us=None)
    document = plan_document(figures(forecast, ("a.csv: one",)), 19.8, "https://e")
    assert document["warnings"] == ("a.csv: one",)
    assert document["forecast"] == {
        "start_at": "2026-11-30T22:00:00Z",
        "rate_per_second": 19.8,
        "persons": 1_234,
        "late_persons": 1,
        "past_due_persons": 0,
        "late_jobs": 1,
        "past_due_jobs": 0,
        "first_late": [
            {
                "place": "a.csv:7",
                "due_at": "2026-11-30T22:00:01Z",
                "sent_at": "2026-11-30T22:00:03Z",
            }
        ],
        "last_due_call_at": "2026-11-30T22:01:02Z",
        "needed_rate_per_second": 0.2,
        "latest_start_at": None,
    }
    assert plan_document(figures(None), 19.8, "")["forecast"] is None
