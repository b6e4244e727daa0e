"""Audit the locks for known vulnerabilities, and never call something clean that was not looked up.

``pip-audit`` exits 0 for packages it could not look up, and says nothing at all when the advisory
service is out of reach. This gate says "not audited" and names the packages in both cases.

Exit codes: 0 all looked up and clean, 1 known vulnerabilities, 3 something was not audited.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of every package that the locks name."""

    clean: tuple[str, ...]
    vulnerable: tuple[str, ...]
    """``name==version: advisory, advisory``."""
    unaudited: tuple[str, ...]
    """``name==version: reason``."""

    def exit_code(self) -> int:
        """The worst that was found."""
        if self.vulnerable:
            return VULNERABLE
        return NOT_AUDITED if self.unaudited else CLEAN

    def lines(self) -> list[str]:
        """The audit for a person."""
        counts = (
            f"{len(self.clean)} clean, {len(self.vulnerable)} vulnerable, "
            f"{len(self.unaudited)} not audited"
        )
        return [
            *(f"VULNERABLE   {package}" for package in self.vulnerable),
            *(f"not audited  {package}" for package in self.unaudited),
            f"audit: {counts}",
        ]


def pinned(locks: list[Path]) -> dict[str, str]:
    """Package name to version over all locks."""
    found: dict[str, str] = {}
    for lock in locks:
        found.update(
            re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text("utf-8"), re.MULTILINE)
        )
    return found


def judge(packages: dict[str, str], answer: Any, failure: str) -> Audit:
    """Each package's fate from pip-audit's JSON; ``answer`` is None when it gave none."""
    told = {
        re.sub(r"[._-]+", "-", entry["name"]).lower(): entry
        for entry in (answer or {}).get("dependencies", [])
    }
    clean, vulnerable, unaudited = [], [], []
    for name, version in sorted(packages.items()):
        entry = told.get(re.sub(r"[._-]+", "-", name).lower())
        if entry is None or "vulns" not in entry:
            reason = (entry or {}).get("skip_reason") or failure
            unaudited.append(f"{name}=={version}: {reason}")
        elif entry["vulns"]:
            advisories = ", ".join(found["id"] for found in entry["vulns"])
            vulnerable.append(f"{name}=={version}: {advisories}")
        else:
            clean.append(name)
    return Audit(tuple(clean), tuple(vulnerable), tuple(unaudited))


def ask(locks: list[Path]) -> tuple[Any, str]:
    """pip-audit's answer, or None and why there is none."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--require-hashes", "--timeout", "10"]
    for lock in locks:
        command += ["--requirement", str(lock)]
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter and file names)
            command, capture_output=True, text=True, timeout=300, check=False
        )
        return json.loads(done.stdout), "pip-audit did not mention it"
    except subprocess.TimeoutExpired:
        return None, "pip-audit did not end within 300 seconds"
    except ValueError:
        return None, "the advisory service could not be reached"


def main() -> int:
    """Audit the locks named as arguments."""
    locks = [Path(name) for name in sys.argv[1:]]
    packages = pinned(locks)
    if not packages:
        sys.stderr.write("audit: the locks name no package\n")
        return NOT_AUDITED
    audit = judge(packages, *ask(locks))
    sys.stdout.write("\n".join(audit.lines()) + "\n")
    return audit.exit_code()


if __name__ == "__main__":
    sys.exit(main())
