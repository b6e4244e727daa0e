"""Mutants of the modules that decide, against their tests: ``make mutation [MODULE=name]``.

The score of a module is the share of its mutants that were killed. Exits with 1 where it is below
90 %, where a survivor has no reason in ``survivors.toml``, or where a reason is given for a mutant
that does not exist or does not survive.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.mutation.module import Module, Survivor, all_modules, all_survivors
from tests.mutation.mutator import Mutant, mutants_of
from tests.mutation.trial import TrialFailed, tried
from tests.planted.tree import ROOT, Tree, trees

PROCESSES = 2
LEAST_SCORE = 0.90

Name = tuple[str, str, str, str]
"""File, line, before, after: how a survivor is known."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the trials of one module showed."""

    mutants: int
    survivors: tuple[tuple[str, Mutant], ...]
    """Each with its file."""
    known: Mapping[Name, Survivor]
    """The explanations that concern the module."""

    @property
    def killed(self) -> int:
        return self.mutants - len(self.survivors)

    @property
    def score(self) -> float:
        return self.killed / self.mutants

    @property
    def unexplained(self) -> int:
        return sum((file, *mutant.name) not in self.known for file, mutant in self.survivors)

    @property
    def stale(self) -> list[Survivor]:
        """Explanations of what is no mutant, or was killed."""
        lived = {(file, *mutant.name) for file, mutant in self.survivors}
        return [survivor for name, survivor in self.known.items() if name not in lived]

    @property
    def good(self) -> bool:
        return self.score >= LEAST_SCORE and not self.unexplained and not self.stale

    def lines(self) -> Iterator[str]:
        """The survivors for a person, with the reasons why they may live."""
        for file, mutant in self.survivors:
            known = self.known.get((file, *mutant.name))
            yield f"  {file}:{mutant.line}: {mutant}"
            yield f"    {known.reason if known else 'NO REASON is given'}"
        for survivor in self.stale:
            yield f"  {survivor.file}: a reason is given for no survivor: {survivor.before}"


def examined(copies: Sequence[Tree], module: Module) -> Findings:
    """Try every mutant of ``module``; raises ``TrialFailed``."""
    count = 0
    survivors: list[tuple[str, Mutant]] = []
    for file in module.files:
        mutants = mutants_of((ROOT / file).read_text("utf-8"))
        count += len(mutants)
        trial = tried(copies, file, mutants, module.tests)
        survivors += [(file, one.mutant) for one in trial if one.survived]
    known = {one.name: one for one in all_survivors() if one.file in module.files}
    return Findings(count, tuple(survivors), known)


def main() -> int:
    modules = all_modules()
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("module", nargs="*", help=f"of {', '.join(modules)}; all, unless named")
    names = arguments.parse_args().module or list(modules)
    if foreign := set(names) - set(modules):
        arguments.error(f"no module is called {', '.join(sorted(foreign))}")
    good = True
    with trees(PROCESSES) as copies:
        for name in names:
            began = time.monotonic()
            try:
                findings = examined(copies, modules[name])
            except TrialFailed as failed:
                say(f"{name}: {failed}")
                good = False
                continue
            say(
                f"{name}: {findings.mutants} mutants, {findings.killed} killed,"
                f" {len(findings.survivors)} survived ({findings.unexplained} without a reason),"
                f" score {findings.score:.1%}, {time.monotonic() - began:.0f} s",
                *findings.lines(),
            )
            good &= findings.good
    return 0 if good else 1


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
