"""Which texts are IDs, and what is said about those that are not: every form of every sentence."""

from __future__ import annotations

import pytest

from worker.sources.identifiers import MOST_CHARACTERS, IdGrammar, printable
from worker.sources.interface import SourceOptions

PERSON = IdGrammar.person(SourceOptions().person_id_pattern)
FACE = IdGrammar.face(SourceOptions().face_id_pattern)

WORD = "face ID is a word; no word ever means all faces or no face"
EXPONENT = "face ID has an exponent"
POINT = "face ID has a decimal point"
PLUS = "face ID has a plus sign"
MINUS = "face ID has a minus sign"
SEPARATORS = "face ID has digit separators"
MARK = "face ID has a spreadsheet's mark for text"
SEVERAL = "face ID is several IDs"
OTHER = "face ID holds characters other than the digits 0 to 9"


@pytest.mark.parametrize("text", ["*", "all", "any", "none", "null", "nil", "nan", "n/a", "na"])
def test_no_word_means_all_faces_or_none(text: str) -> None:
    assert FACE.defect(text) == FACE.defect(text.upper()) == FACE.defect(text.title()) == WORD


@pytest.mark.parametrize("text", ["undefined", "true", "False", "TRUE"])
def test_no_value_of_a_program_means_all_faces_or_none(text: str) -> None:
    assert FACE.defect(text) == WORD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1E5", EXPONENT),
        ("1e+5", EXPONENT),
        ("1.24445E-12", EXPONENT),
        ("1.E+12", EXPONENT),
        ("-1,5E3", EXPONENT),
        ("+1E5", EXPONENT),
        ("1E", OTHER),
        ("E5", OTHER),
        (".5E3", OTHER),
        ("1E5x", OTHER),
        ("5.", POINT),
        ("5.0", POINT),
        ("-5.25", POINT),
        ("+5.0", POINT),
        (".5", OTHER),
        ("5.0.1", OTHER),
        ("+5", PLUS),
        ("+", OTHER),
        ("++5", OTHER),
        ("-5", MINUS),
        ("-", OTHER),
        ("1,234", SEPARATORS),
        ("12,34,567", SEPARATORS),
        ("1'234'567", SEPARATORS),
        ("1,23", SEPARATORS),
        ("1,2", OTHER),
        ("1234,567", OTHER),
        ("1,2345", OTHER),
        ("'5", MARK),
        ("=5", MARK),
        ('="5"', MARK),
        ('="5', MARK),
        ("'", OTHER),
        ('=""', OTHER),
        ("'5'", OTHER),
        ("1;2", SEVERAL),
        ("1;", SEVERAL),
        ("1;;2;", SEVERAL),
        (";1", OTHER),
        ("1;x", OTHER),
        ("1;2x", OTHER),
        ("~5~", OTHER),
    ],
)
def test_a_hint_is_given_for_exactly_what_a_spreadsheet_does(text: str, said: str) -> None:
    assert FACE.defect(text).startswith(said)


def test_hints_are_for_what_the_grammar_refuses() -> None:
    """Under another grammar a text may be too short, and still be no number of a spreadsheet."""
    two = IdGrammar.face("[0-9]{2}")
    assert two.defect("12") == ""
    assert two.defect("1") == "face ID does not match face_id_pattern of the configuration"
    assert IdGrammar.person("[a-z]+").defect("A") == (
        "person ID does not match person_id_pattern of the configuration"
    )


def test_hints_about_numbers_are_for_faces() -> None:
    """A person may be called null, and a dot in a name is no decimal point."""
    assert PERSON.defect("null") == PERSON.defect("-5") == PERSON.defect("1" * 32) == ""
    other = "person ID holds characters other than A-Z, a-z, 0-9, _ and -"
    assert [PERSON.defect(text) for text in ("5.0", "1,234", "*")] == [other] * 3


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u00a0", "\u3000"])
def test_any_space_but_the_plain_one_is_named(sign: str) -> None:
    assert FACE.defect(f"1{sign}") == "face ID holds a non-breaking or other special space"


@pytest.mark.parametrize("grammar", [PERSON, FACE, IdGrammar.face("[0-9]{3}")])
def test_many_texts_are_judged_as_one_by_one(grammar: IdGrammar) -> None:
    assert grammar.accepts_all([]) is True
    assert grammar.accepts_all(["123", "456"]) is True
    for bad in ("", "1 2", "123\n", "\n", "123\n456", "é"):
        assert grammar.accepts_all(["123", bad, "456"]) is False


def test_texts_of_a_grammar_with_line_feeds_cannot_borrow_from_their_neighbours() -> None:
    grammar = IdGrammar.person("a\nb")
    assert grammar.accepts_all(["a\nb", "a\nb"]) is True
    assert grammar.accepts_all(["a", "b"]) is False


@pytest.mark.parametrize("grammar", [PERSON, FACE])
def test_alphabet_and_length_say_what_the_documented_patterns_say(grammar: IdGrammar) -> None:
    """Columns are judged by these two alone."""
    assert grammar.alphabet is not None
    signs = [sign for sign in map(chr, range(0x100)) if not grammar.defect(sign)]
    assert sorted(grammar.alphabet.decode()) == signs
    assert not grammar.defect("1" * MOST_CHARACTERS)
    assert grammar.defect("1" * (MOST_CHARACTERS + 1))


def test_another_grammar_has_no_alphabet() -> None:
    assert IdGrammar.person("[A-Za-z0-9_-]{1,31}").alphabet is None
    assert IdGrammar.face("[0-9]+").alphabet is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("x" * 200, "x" * 200), ("x" * 201, ""), ("a\tb", ""), ("é", "é")],
)
def test_what_a_report_may_show(text: str, shown: str) -> None:
    assert printable(text) == shown
