"""How long ``facepurge --help`` takes, against an interpreter that does nothing.

To reach: 0.2 s or less on a machine that does nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import time

REPEATS = 15


def best_seconds(*arguments: str) -> float:
    """The best of several starts: the others shared the machine with somebody."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    bare = best_seconds("-c", "pass")
    help_ = best_seconds("-m", "worker", "--help")
    print(f"bare interpreter  {bare:.3f} s")
    print(f"facepurge --help  {help_:.3f} s   {help_ / bare:.1f} times the bare interpreter")


if __name__ == "__main__":
    main()
