"""One hunt: a bug is put into a tree, and the tests that are to catch it are run there."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.planted.bug import Bug, Unplantable
from tests.planted.tree import Tree

DEADLINE_SECONDS = 180.0

SLIP = re.compile(r"(ImportError|ModuleNotFoundError|SyntaxError|NameError|UnboundLocalError)\b")
"""What a slip of the list's author raises: no test has understood anything then."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed in its own words, not while it was collected or set up."""

    test: str
    """``file::function[case]``, as pytest names tests."""
    message: str


@dataclass(frozen=True, slots=True)
class Hunted:
    """What became of one bug."""

    bug: Bug
    seconds: float
    complaint: str
    """Why the bug does not count as caught, or ``""``."""


def hunt(tree: Tree, bug: Bug) -> Hunted:
    """Run the bug's tests in ``tree`` while the bug is in it."""
    began = time.monotonic()
    try:
        broken = bug.planted((tree.directory / bug.file).read_text("utf-8"))
    except Unplantable as unplantable:
        return Hunted(bug, 0.0, str(unplantable))
    with tree.holding(bug.file, broken):
        complaint = _complaint(tree, bug.caught_by)
    return Hunted(bug, time.monotonic() - began, complaint)


def _complaint(tree: Tree, tests: Sequence[str]) -> str:
    junit = tree.directory / "junit.xml"
    junit.unlink(missing_ok=True)
    ran = tree.run(*_pytest(junit), *tests, timeout_seconds=DEADLINE_SECONDS)
    if ran.code is None:
        return f"the tests hang: they did not end within {DEADLINE_SECONDS:g} s"
    if ran.code == 0:
        return "not caught"
    if ran.code != 1:
        return f"pytest ended with {ran.code}: {_last_line(ran.said)}"
    failures = list(failures_in(junit))
    for test in tests:
        caught = [failure for failure in failures if is_of(failure.test, test)]
        if not caught:
            return f"not caught by {test}"
        if slips := [failure.message for failure in caught if SLIP.match(failure.message)]:
            return f"not a bug but a slip of the list: {slips[0].splitlines()[0]}"
    return ""


def complaint_without_bug(tree: Tree, bugs: Iterable[Bug]) -> str:
    """Why the tests of ``bugs`` say nothing: they fail without any bug, too. ``""`` if they pass."""
    tests = dict.fromkeys(test for bug in bugs for test in bug.caught_by)
    junit = tree.directory / "junit.xml"
    ran = tree.run(*_pytest(junit), *tests, timeout_seconds=10 * DEADLINE_SECONDS)
    if ran.code == 0:
        return ""
    return f"without any bug pytest ended with {ran.code}:\n{ran.said[-3000:]}"


def _pytest(junit: Path) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", f"--junit-xml={junit}")


def failures_in(junit: Path) -> Iterator[Failure]:
    """The failures in pytest's report; errors of collection and of fixtures are none."""
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 (as above)
        failure = case.find("failure")
        if failure is not None:
            file = case.attrib["classname"].replace(".", "/") + ".py"
            yield Failure(f"{file}::{case.attrib['name']}", failure.attrib.get("message", ""))


def is_of(test: str, named: str) -> bool:
    """Whether ``test`` is what ``named`` names: a test, or one of its cases."""
    return test == named or test.partition("[")[0] == named


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
