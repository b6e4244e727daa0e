from __future__ import annotations

from worker.cli.troubles import LINES_A_MINUTE, MOST_KINDS, OTHER_KINDS, Trouble, Troubles


def test_trouble_is_grouped_by_kind_with_its_latest_place() -> None:
    troubles = Troubles()
    assert troubles.saw("refused 400", "in.csv:2", 10.0) == 1
    assert troubles.saw("ambiguous 500", "in.csv:3", 11.0) == 1
    assert troubles.saw("refused 400", "in.csv:9", 12.0) == 2
    assert troubles.most_first == [
        Trouble("refused 400", 2, 12.0, "in.csv:9"),
        Trouble("ambiguous 500", 1, 11.0, "in.csv:3"),
    ]


def test_kinds_that_somebody_makes_up_without_end_are_one() -> None:
    troubles = Troubles()
    for number in range(MOST_KINDS + 50):
        troubles.saw(f"ambiguous {number}", f"in.csv:{number}", float(number))
    assert len(troubles.most_first) == MOST_KINDS + 1
    assert troubles.most_first[0] == Trouble(OTHER_KINDS, 50, MOST_KINDS + 49.0, "in.csv:149")


def test_the_first_of_a_kind_is_told_and_then_ever_fewer() -> None:
    troubles = Troubles()
    told = [n for n in range(1, 20_001) if troubles.is_worth_a_line(n, 100.0 * n)]
    assert told == [1, 10, 100, 1_000, 10_000]
    assert troubles.left_out() == 0


def test_a_flood_of_kinds_gets_so_many_lines_a_minute_and_is_counted() -> None:
    troubles = Troubles()
    told = [troubles.is_worth_a_line(1, 0.5 * n) for n in range(100)]
    assert told == [True] * LINES_A_MINUTE + [False] * (100 - LINES_A_MINUTE)
    assert troubles.is_worth_a_line(1, 61.0)
    assert troubles.left_out() == 100 - LINES_A_MINUTE
    assert troubles.left_out() == 0
