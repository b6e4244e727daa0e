"""The mutator makes the mutants it should, and a few are tried; ``make mutation`` tries all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.campaign import Findings
from tests.mutation.module import Survivor, all_modules, all_survivors
from tests.mutation.mutator import Mutant, mutants_of
from tests.mutation.trial import TrialFailed, tried
from tests.named_tests import missing
from tests.planted.tree import ROOT, Tree

MODULES = all_modules()
FILES = [file for module in MODULES.values() for file in module.files]
IDS = "worker/sources/identifiers.py"
IDS_TESTS = ("tests/sources/test_sources_identifiers.py",)


def changes(source: str) -> list[str]:
    return sorted(str(mutant) for mutant in mutants_of(source))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a == b", ["a == b  ->  (a != b)"]),
        ("x = a < b <= c", ["a < b <= c  ->  (a < b < c)", "a < b <= c  ->  (a <= b <= c)"]),
        ("x = a in b", ["a in b  ->  (a not in b)"]),
        ("x = a is None", ["a is None  ->  (a is not None)"]),
        ("x = a and b", ["a and b  ->  (a or b)"]),
        ("x = not a", ["not a  ->  a"]),
        ("x = a + 1", ["1  ->  2", "a + 1  ->  (a - 1)"]),
        ("x = True", ["True  ->  False"]),
        ("x = 'word'", ["'word'  ->  'word~'"]),
        ("x = a if b else c", ["b  ->  False", "b  ->  True"]),
        ("x = [a for a in b if c]", ["c  ->  False", "c  ->  True"]),
        ("if a:\n    b()", ["a  ->  False", "a  ->  True", "b()  ->  pass"]),
        ("while a:\n    pass", ["a  ->  False"]),
        ("def f():\n    return a", ["return a  ->  return None"]),
        ("def f(a=1):\n    pass", ["1  ->  2"]),
        ("a += b", ["a += b  ->  a -= b", "a += b  ->  pass"]),
        ("a.b = c", ["a.b = c  ->  pass"]),
        ("raise a", ["raise a  ->  pass"]),
        ("f(a, b=c)", ["b=c  ->  (left out)", "f(a, b=c)  ->  pass"]),
        ("x = min(a)", ["min(a)  ->  max(a)"]),
        ("x = a.fullmatch(b)", ["a.fullmatch  ->  a.match"]),
        ("x = a[b:c]", ["b:c  ->  :c", "b:c  ->  b:"]),
        ("X = frozenset({a, 'b'})", ["'b'  ->  (left out)", "a  ->  (left out)"]),
        ("X = ((a, 'say so'), (b, 'or so'))", ["(a, 'say so')  ->  (left out)", "(b, 'or so')  ->  (left out)"]),
        ("X = {1: A, 2: B}", ["1  ->  (left out)", "2  ->  (left out)", "A  ->  B", "B  ->  A"]),
        ("from e import K\nx = K.ONE\ny = K.TWO", ["K.ONE  ->  K.TWO", "K.TWO  ->  K.ONE"]),
        ("match a:\n    case 1 | 2:\n        pass", ["1  ->  (left out)", "1  ->  2", "2  ->  (left out)", "2  ->  3"]),
        ("match a:\n    case b if c:\n        pass", ["c  ->  False", "c  ->  True"]),
        ("X = r'[0-9]+'", ["[0-9]+  ->  [0-9]*"]),
        ("X = r'[+*]{1,3}'", ["[+*]{1,3}  ->  [+*]{1,4}", "[+*]{1,3}  ->  [+*]{2,3}"]),
        (
            "X = 'SELECT a FROM b WHERE c = 1 AND d <> 2'",
            [
                "CT a FROM b WHERE c = 1 AND d <> 2  ->  CT a FROM b WHERE c = 1 OR d <> 2",
                "ROM b WHERE c = 1 AND d <> 2  ->  ROM b WHERE c = 1 AND d = 2",
                "SELECT a FROM b WHERE c = 1 AND d <> 2  ->  SELECT a FROM b WHERE c <> 1 AND d <> 2",
            ],
        ),
    ],
)  # fmt: skip
def test_every_change_that_may_matter_is_made(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "import a",
        "from a import b",
        "class A:\n    '''Words.'''\n\n    b: int",
        "def f(a: Literal['x']) -> Literal['y']:\n    '''Words.'''",
        "@decorated(1)\nclass A:\n    ...",
        "assert a == b",
        "x = 'a sentence for people'",
        "x = f'{a == b} 1'",
    ],
)
def test_what_decides_nothing_is_left_alone(source: str) -> None:
    assert changes(source) == []


def test_a_mutant_knows_its_line() -> None:
    source = "X = {\n    'é': a,\n    'b': a,\n}\n\n\ndef f():\n    return 'ü' == c\n"
    found = {str(mutant): (mutant.line, mutant.code) for mutant in mutants_of(source)}
    assert found["'b'  ->  (left out)"] == (3, "'b': a,")
    assert found["'ü' == c  ->  ('ü' != c)"] == (8, "return 'ü' == c")


@pytest.mark.parametrize("file", FILES)
def test_all_mutants_of_a_module_differ(file: str) -> None:
    source = (ROOT / file).read_text("utf-8")
    texts = [mutant.text for mutant in mutants_of(source)]
    assert len({source, *texts}) == len(texts) + 1 > 5


def test_modules_have_their_tests() -> None:
    assert set(MODULES) >= {"verdict", "fold", "ids", "plan"}
    tests = [test for module in MODULES.values() for test in module.tests]
    functions = [test for test in tests if "::" in test]
    assert [complaint for test in functions if (complaint := missing(test))] == []
    assert all((ROOT / test.partition("::")[0]).is_file() for test in tests)


def test_every_reason_is_for_a_mutant_that_exists() -> None:
    known = all_survivors()
    mutants = {
        (file, *mutant.name)
        for file in {survivor.file for survivor in known}
        for mutant in mutants_of((ROOT / file).read_text("utf-8"))
    }
    assert [survivor for survivor in known if survivor.name not in mutants] == []
    assert all(survivor.reason.endswith(".") for survivor in known)
    assert len({survivor.name for survivor in known}) == len(known)


A, B = (Mutant(n, "x = a", f"a{n}", "b", "x = b") for n in (1, 2))


def explained(mutant: Mutant) -> Survivor:
    return Survivor("f.py", *mutant.name, reason="It is the same.")


@pytest.mark.parametrize(
    ("total", "survivors", "reasons", "good"),
    [
        (20, [], [], True),
        (20, [A, B], [A, B], True),
        (20, [A, B], [A], False),
        (20, [A], [A, B], False),
        (19, [A, B], [A, B], False),
    ],
)
def test_a_module_is_good_with_nine_of_ten_killed_and_the_rest_explained(
    total: int, survivors: list[Mutant], reasons: list[Mutant], *, good: bool
) -> None:
    known = {one.name: one for one in map(explained, reasons)}
    findings = Findings(total, tuple(("f.py", one) for one in survivors), known)
    assert findings.good is good
    assert any("NO REASON" in text for text in findings.lines()) is (len(survivors) > len(reasons))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("mutation") / "tree")


@pytest.mark.campaign
def test_some_mutants_are_killed_and_an_equal_one_survives(tree: Tree) -> None:
    mutants = mutants_of((ROOT / IDS).read_text("utf-8"))
    harmless = {survivor.name[1:] for survivor in all_survivors() if survivor.file == IDS}
    some = [mutant for mutant in mutants if mutant.name in harmless][:1] + mutants[5::50]
    trial = tried([tree], IDS, some, IDS_TESTS)
    assert len(trial) == len(some) >= 4
    assert {one.mutant.name in harmless for one in trial if one.survived} == {True}
    assert (tree.directory / IDS).read_bytes() == (ROOT / IDS).read_bytes()


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        (("tests/sources/test_sources_identifiers.py::test_gone",), "pytest ended with 4"),
        (("tests/test_fails.py",), "pytest ended with 1"),
    ],
)
def test_tests_that_fail_without_a_mutant_kill_nothing(
    tree: Tree, tests: tuple[str, ...], said: str
) -> None:
    Path(tree.directory / "tests" / "test_fails.py").write_text(
        "def test_it():\n    assert not 1\n"
    )
    with pytest.raises(TrialFailed, match=said):
        tried([tree], IDS, mutants_of("x = True"), tests)


def test_a_mutant_that_hangs_is_killed(tree: Tree) -> None:
    (tree.directory / "worker" / "turns.py").write_text("TURNS = 1\n")
    (tree.directory / "tests" / "test_turns.py").write_text(
        "from worker.turns import TURNS\n\n\ndef test_it():\n    assert TURNS == 1\n"
    )
    hangs = Mutant(1, "", "", "", "TURNS = 1\nwhile True:\n    pass\n")
    lives = Mutant(2, "", "", "", "TURNS = 1.0\n")
    mutants, tests = [hangs, lives], ["tests/test_turns.py"]
    trial = tried([tree], "worker/turns.py", mutants, tests, shortest_seconds=1.0)
    assert [one.survived for one in trial] == [False, True]
