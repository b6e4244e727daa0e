"""The word that opens the gate: a number of faces, or of persons where their faces are not known."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.core.rig import draft_run, rows
from worker.cli.consent import Noun, obtain, shown, to_be_confirmed
from worker.errors import GateClosed
from worker.model import Entry

END = "<end of what was shown>"


@contextmanager
def terminal(typed: bytes) -> Iterator[Callable[[], str]]:
    """A terminal in the place of standard input and standard error, where ``typed`` was typed.

    Gives what reads its screen. No fixture: pytest puts its own streams back before the test.
    """
    master, slave = os.openpty()
    with (
        pytest.MonkeyPatch.context() as patch,
        os.fdopen(os.dup(slave), encoding="utf-8") as stdin,
        os.fdopen(slave, "w", encoding="utf-8") as stderr,
    ):
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stderr", stderr)
        os.write(master, typed)

        def screen() -> str:
            # A terminal hands over what it has so far: the echo may come before all the rest.
            stderr.write(END)
            stderr.flush()
            shown = b""
            while END.encode() not in shown:
                shown += os.read(master, 65536)
            return shown.decode().removesuffix(END)

        yield screen
    os.close(master)


def ask(noun: Noun, count: int = 3, *, yes: bool = False, confirm: int | None = None) -> None:
    with shown(["  the plan"], at_once=True):
        obtain(count, noun, yes=yes, confirm=confirm, stdin_is_a_source=False)


def test_faces_are_counted_where_all_are_known(tmp_path: Path) -> None:
    figures = draft_run(tmp_path, [rows([("ann", "1"), ("ann", "2"), ("ben", "3")])])
    assert to_be_confirmed(figures) == (3, "face")


def test_persons_are_counted_as_soon_as_one_is_whole(tmp_path: Path) -> None:
    """Those with named faces too: one number stands for the whole plan."""
    entries = rows([("ann", "1"), ("ann", "2"), ("ben", "3")])
    entries += [Entry(n, n, "", "cid", "", "", "", "", whole=True) for n in (10, 11)]
    assert to_be_confirmed(draft_run(tmp_path, [entries])) == (3, "person")


@pytest.mark.parametrize(
    ("noun", "question"),
    [
        ("face", "type the number of faces to be deleted (3): "),
        ("person", "type the number of persons whose faces are to be deleted (3): "),
    ],
)
def test_the_right_number_opens_the_gate(noun: Noun, question: str) -> None:
    with terminal(b"3\n") as screen:
        ask(noun)
        shown = screen()
    assert "the plan" in shown
    assert "Deletion cannot be undone." in shown
    assert question in shown


@pytest.mark.parametrize(
    ("typed", "cause"),
    [
        (b"4\n", "the number typed is not the number of persons"),
        (b"3 persons\n", "the number typed is not the number of persons"),
        (b"\n", "no number was typed"),
    ],
)
def test_any_other_answer_keeps_it_closed(typed: bytes, cause: str) -> None:
    with terminal(typed), pytest.raises(GateClosed) as closed:
        ask("person")
    assert closed.value.cause == cause
    assert closed.value.remedy == "start again and type 3, or give --confirm 3"


@pytest.mark.parametrize("noun", ["face", "person"])
def test_confirm_has_to_name_the_number_of_the_plan(noun: Noun) -> None:
    ask(noun, confirm=3)
    for other in (0, 2, 4):
        with pytest.raises(GateClosed) as closed:
            ask(noun, confirm=other)
        assert closed.value.cause == f"--confirm says {other}, and the plan has 3 {noun}s"


def test_of_what_is_left_the_number_is_another() -> None:
    with pytest.raises(GateClosed, match="says 5, and 594 faces would be taken up now") as closed:
        obtain(594, "face", yes=False, confirm=5, stdin_is_a_source=False, of_what="rest")
    assert closed.value.remedy == (
        "the number is of what the run has left to do, not of all that was planned; if that is right,"
        " give --confirm 594"
    )


@pytest.mark.parametrize("name", ["stdin", "stderr"])
def test_a_stream_that_is_closed_is_nobody_to_ask(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with terminal(b"3\n"):
        monkeypatch.setattr(sys, name, None)
        with pytest.raises(GateClosed, match="3 faces would be deleted, and nobody can be asked"):
            obtain(3, "face", yes=False, confirm=None, stdin_is_a_source=False)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_gate_that_speaks_of_the_plan_has_shown_it(
    capsys: pytest.CaptureFixture[str], *, at_once: bool
) -> None:
    with shown(["  the plan"], at_once=at_once):
        assert capsys.readouterr().err == ("plan\n  the plan\n" if at_once else "")
    with (
        pytest.raises(GateClosed),
        shown(["  the plan"], at_once=at_once),
    ):
        raise GateClosed("too big", "look at the plan")
    assert capsys.readouterr().err == "plan\n  the plan\n"


def test_nobody_to_ask_is_told_what_would_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        with pytest.raises(GateClosed, match="faces of 3 persons would be deleted") as closed:
            ask("person")
    assert closed.value.remedy == "give --confirm 3 (or --yes, whatever the number)"
    ask("person", yes=True)
    ask("person", count=0)
