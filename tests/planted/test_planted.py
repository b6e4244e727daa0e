"""The list of planted bugs fits the tree, and a few of them are hunted; ``make planted`` hunts all."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from pathlib import Path

import msgspec
import pytest

from tests.named_tests import missing
from tests.planted.bug import Bug, all_bugs
from tests.planted.hunt import complaint_without_bug, hunt
from tests.planted.tree import ROOT, Tree

BUGS = {bug.name: bug for bug in chain.from_iterable(all_bugs().values())}
QUICK = ("reuse-the-nonce", "lock-not-taken", "a-server-error-is-a-refusal")

LOCKS = Bug(
    name="one",
    file="worker/locks.py",
    wrong="Nothing at all.",
    old='LOCK_NAME = "lock"',
    new='LOCK_NAME = "latch"',
    caught_by=("tests/core/test_locks.py::test_a_lock_is_free_after_an_error",),
)


def test_the_list_is_long_and_names_each_bug_once() -> None:
    parts = all_bugs()
    assert len(BUGS) == sum(map(len, parts.values())) >= 30
    assert len(parts) >= 12


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_the_bug_can_be_planted(bug: Bug) -> None:
    assert bug.planted((ROOT / bug.file).read_text("utf-8"))
    assert bug.wrong.endswith(".")
    assert bug.caught_by
    assert [c for test in bug.caught_by if (c := missing(test.partition("[")[0]))] == []


def test_no_bug_is_a_slip_of_the_pen(tmp_path: Path) -> None:
    """A name that nothing defines would fail any test, and show nothing about it."""
    for bug in BUGS.values():
        if bug.file.endswith(".py"):
            planted = bug.planted((ROOT / bug.file).read_text("utf-8"))
            (tmp_path / f"{bug.name}.py").write_text(planted)
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F823", tmp_path],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("planted") / "tree")


@pytest.mark.campaign
def test_some_bugs_are_caught(tree: Tree) -> None:
    quick = [BUGS[name] for name in QUICK]
    assert complaint_without_bug(tree, quick) == ""
    assert [hunted.complaint for hunted in (hunt(tree, bug) for bug in quick)] == [""] * len(QUICK)
    for bug in quick:
        assert (tree.directory / bug.file).read_bytes() == (ROOT / bug.file).read_bytes()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, "not caught"),
        ({"old": "NO_SUCH_NAME"}, "0 times in worker/locks.py, not once"),
        ({"old": "import"}, "times in worker/locks.py, not once"),
        ({"new": 'LOCK_NAME = "lock'}, "does not compile"),
        ({"new": LOCKS.old}, "the new text is the old one"),
        ({"new": "LOCK_NAME = latch"}, "pytest ended with"),
        (
            {"old": "        holder = Holder(", "new": "        holder = Holder_("},
            "a slip of the list",
        ),
        ({"caught_by": ("tests/core/test_locks.py::test_gone",)}, "pytest ended with"),
    ],
)
def test_what_is_no_caught_bug_is_found_out(
    tree: Tree, changes: dict[str, object], complaint: str
) -> None:
    bug = msgspec.structs.replace(LOCKS, **changes)
    assert complaint in hunt(tree, bug).complaint
