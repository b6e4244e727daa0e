"""One trial: the mutants of a file in one or more trees, and which of them were killed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.mutation.mutator import Mutant
from tests.mutation.nursery import HANGS
from tests.planted.tree import Tree

SHORTEST_DEADLINE_SECONDS = 10.0
PATIENCE = 6
"""How many times longer than the original a mutant may take before it counts as hanging."""

SURVIVED, FAILED, INTERRUPTED, CRASHED = 0, 1, 2, 3
"""Exit codes of pytest; a mutant that cannot be imported interrupts the collection."""


class TrialFailed(Exception):
    """The trial says nothing: its tests fail without any mutant, or could not be run."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one mutant."""

    mutant: Mutant
    survived: bool


def tried(
    copies: Sequence[Tree],
    file: str,
    mutants: Sequence[Mutant],
    tests: Sequence[str],
    *,
    shortest_seconds: float = SHORTEST_DEADLINE_SECONDS,
) -> list[Tried]:
    """Try ``mutants`` of ``file`` with ``tests``, shared out over ``copies``.

    A mutant has ``shortest_seconds``, or more where the tests take long. Raises ``TrialFailed``.
    """
    deadline = max(shortest_seconds, PATIENCE * _original_seconds(copies[0], file, tests))

    def some(number: int) -> Iterator[Tried]:
        share = mutants[number :: len(copies)]
        codes = _raised(copies[number], file, [mutant.text for mutant in share], tests, deadline)
        for mutant, (code, _) in zip(share, codes, strict=True):
            if code not in {SURVIVED, FAILED, INTERRUPTED, CRASHED, HANGS}:
                raise TrialFailed(f"{file}:{mutant.line}: pytest ended with {code}")
            yield Tried(mutant, survived=code == SURVIVED)

    with ThreadPoolExecutor(len(copies)) as pool:
        shares = pool.map(lambda number: list(some(number)), range(len(copies)))
        return sorted((one for share in shares for one in share), key=lambda t: t.mutant.line)


def _original_seconds(tree: Tree, file: str, tests: Sequence[str]) -> float:
    original = (tree.directory / file).read_text("utf-8")
    ((code, seconds),) = _raised(tree, file, [original], tests, deadline=300.0)
    if code != SURVIVED:
        ran = tree.run("-m", "pytest", "-q", "--tb=short", *tests, timeout_seconds=300)
        raise TrialFailed(f"{file}: without any mutant pytest ended with {code}:\n{ran.said}")
    return seconds


def _raised(
    tree: Tree, file: str, texts: Sequence[str], tests: Sequence[str], deadline: float
) -> list[tuple[int, float]]:
    if not texts:
        return []
    job = tree.directory / "job.json"
    job.write_text(json.dumps({"file": file, "texts": texts, "tests": tests, "deadline": deadline}))
    ran = tree.run(
        "-m", "tests.mutation.nursery", str(job), timeout_seconds=60 + deadline * len(texts)
    )
    lines = ran.said.splitlines()
    if ran.code != 0 or len(lines) != len(texts):
        raise TrialFailed(f"{file}: the nursery ended with {ran.code}:\n{ran.said[-2000:]}")
    return [(int(code), float(seconds)) for code, seconds in map(str.split, lines)]
