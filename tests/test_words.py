"""Every message is a sentence that a person can act upon, and says nothing that is nobody's business.

House style: an error has a cause that begins with its place, and a remedy. Both are clauses in plain
words without a full stop, because they stand behind "facepurge:" and "remedy:".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import click
import pytest

import worker.cli
from tests.messages import HOLE, Message, Voice, messages
from worker.configuration import TYPES
from worker.green.codes import GATEWAY_CODES, SERVICE_CODES
from worker.ledger.writer import ledger_failed
from worker.model import Kind, Outcome

ALL = tuple(messages())
CLAUSES = tuple(x for x in ALL if x.voice in (Voice.ERROR, Voice.STOP, Voice.VERDICT, Voice.USAGE))

PASSED_ON = re.compile(rf"{HOLE}?")
"""A text that comes from elsewhere as a whole, where it is held to the same rules."""

JARGON = re.compile(
    r"\b(?:abort(?:ed)?|argv|bad|blacklist|boolean|dict|deserializ\w+|errno|exceptions?|fatal|illegal"
    r"|instantiate|iterable|json\.decode|kwargs|malformed|none ?type|null|oops|please|runtime|segfault"
    r"|serializ\w+|sorry|stack ?trace|successfully|traceback|tuple|unable|unexpectedly|utiliz\w+"
    r"|whitelist)\b",
    re.IGNORECASE,
)
"""Words that blame, beg or explain nothing to whoever reads them at night."""

UNSPEAKABLE = re.compile(
    r"person_ids?\b|face_ids?\b|\blabels?\b|secret\b|token\b|password|signature\b|\.listed\b"
    r"|\bvalues?\[|request_body|\bbody\b"
)
"""What is in the ledger and the report only, or nowhere at all."""

SPOKEN_ALL_THE_SAME = {
    "len(call.face_ids)": "a number",
    "len(evidence.listed)": "a number",
    "label.command": "the label on a plan is a command of ours",
    "signature.kind": "what kind of file it is, by its first bytes",
    "remedy(signature, self._place)": "as above",
}
"""Holes that look like one of these, and why they are none."""

ORDINARY = frozenset(
    {"configs", "person_id", "person_ids", "face_id", "face_ids", "job_id", "snake_case"}
)

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
COMMAND = re.compile(r"(?<!version of )(?<![\w./-])facepurge ([a-z]+)")
PLACEHOLDER = re.compile(r"\bRUN_?DIR\b|\bPATH_TO\b|\bTODO\b|\bXXX\b|\bFIXME\b")
WORD = re.compile(r"[a-z]+(?:_[a-z]+)+")


def said(found: Iterable[Message]) -> list[tuple[str, str]]:
    """Place and text of everything that is said, remedies too."""
    return [
        (message.place, text) for message in found for text in (*message.texts, *message.remedies)
    ]


def test_the_messages_are_found() -> None:
    counts = {voice: sum(message.voice is voice for message in ALL) for voice in Voice}
    assert counts[Voice.ERROR] > 150
    assert counts[Voice.STOP] > 5
    assert counts[Voice.VERDICT] > 12
    assert counts[Voice.USAGE] > 3
    assert counts[Voice.LOG] > 10
    assert counts[Voice.STDERR] > 10


def test_a_message_is_read_with_its_branches_its_names_and_its_holes() -> None:
    (found,) = [
        x for x in ALL if x.place.startswith("worker.cli.consent") and "typed" in x.texts[0]
    ]
    assert found.voice is Voice.ERROR
    assert found.texts == (f"the number typed is not the number of {HOLE}s", "no number was typed")
    assert found.remedies == (f"start again and type {HOLE}, or give --confirm {HOLE}",)
    assert set(found.holes) >= {"count", "noun"}
    (half,) = [x for x in ALL if any("the key pair or its token" in text for text in x.texts)][:1]
    assert half.remedies == ("store it without the line end that editors and `echo` add",)


def test_every_error_has_a_cause_and_a_remedy() -> None:
    lacking = [
        message.place
        for message in ALL
        if message.voice is Voice.ERROR
        and not (all(message.texts) and message.remedies and all(message.remedies))
    ]
    assert lacking == []


def test_what_a_code_asks_for_is_among_the_messages() -> None:
    collected = {text for x in ALL if x.voice is Voice.VERDICT for text in x.remedies}
    meanings = (*SERVICE_CODES.values(), *GATEWAY_CODES.values())
    remedies = {meaning.remedy for meaning in meanings if meaning.kind is Kind.FATAL}
    assert "" not in remedies
    assert remedies <= collected


def test_every_stop_says_why() -> None:
    assert [x.place for x in ALL if x.voice is Voice.STOP and not all(x.texts)] == []


@pytest.mark.parametrize("message", CLAUSES, ids=str)
def test_a_message_reads_as_a_clause(message: Message) -> None:
    for text in (*message.texts, *message.remedies):
        if PASSED_ON.fullmatch(text):
            continue
        assert text == text.strip(), text
        assert "  " not in text, text
        assert "\n" not in text, text
        # An ellipsis stands for what a person has to name.
        assert not text.endswith((".", "!", ",", ";", ":")) or text.endswith("..."), text
        assert "!" not in text, text
        assert text.count("(") == text.count(")"), text
        assert text.count("`") % 2 == 0, text
        assert len(text.split()) > 1, text


@pytest.mark.parametrize("message", CLAUSES, ids=str)
def test_a_message_begins_in_the_middle_of_a_line(message: Message) -> None:
    for text in (*message.texts, *message.remedies):
        first = text.split(maxsplit=1)[0] if text.strip() else HOLE
        shouted = first.isupper() or re.match(r"[A-Z]+_", first)
        assert not text[0].isupper() or shouted or text.startswith("Did you mean "), text


def test_no_placeholder_stands_where_the_name_is_known() -> None:
    assert [x for x in said(ALL) if PLACEHOLDER.search(x[1])] == []


def test_only_flags_that_exist_are_named() -> None:
    context = click.Context(worker.cli.facepurge)
    known = {"--help", "--version"}
    for verb in worker.cli.VERBS:
        command = worker.cli.facepurge.get_command(context, verb)
        assert command is not None
        known |= {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    named = [(place, flag) for place, text in said(ALL) for flag in FLAG.findall(text)]
    assert len(named) > 50
    assert [x for x in named if x[1] not in known] == []


def test_only_verbs_that_exist_are_named() -> None:
    named = [(place, verb) for place, text in said(ALL) for verb in COMMAND.findall(text)]
    assert len(named) > 15
    assert [x for x in named if x[1] not in worker.cli.VERBS] == []


def test_only_settings_that_exist_are_named() -> None:
    known = {*TYPES, *Outcome, *ORDINARY}
    words = [(place, word) for place, text in said(CLAUSES) for word in WORD.findall(text)]
    assert len(words) > 20
    assert [x for x in words if x[1] not in known] == []


def test_nothing_is_said_in_words_of_the_trade() -> None:
    assert [x for x in said(ALL) if JARGON.search(x[1])] == []


def test_no_message_holds_an_id_a_label_or_a_secret() -> None:
    held = [
        (message.place, hole)
        for message in ALL
        for hole in message.holes
        if UNSPEAKABLE.search(hole) and hole not in SPOKEN_ALL_THE_SAME
    ]
    assert held == []


def test_lines_of_the_log_are_clauses_too() -> None:
    lines = [(x.place, text) for x in ALL if x.voice is Voice.LOG for text in x.texts]
    odd = [x for x in lines if x[1].endswith(".") or x[1][:1].isupper() or x[1] != x[1].strip()]
    assert odd == []


def test_a_broken_ledger_names_the_run_in_the_command() -> None:
    failed = ledger_failed("/data/my runs/r/ledger.sqlite3", OSError("no space"))
    assert failed.remedy.endswith("facepurge resume '/data/my runs/r'")
