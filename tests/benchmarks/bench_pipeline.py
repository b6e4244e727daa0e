"""The ceiling of the pipeline, beside other ways to make the same signed calls.

``python tests/benchmarks/bench_pipeline.py`` makes every contestant call a quick server on this
machine, each in a process of its own, in turns, so that what else the machine does meets them all.
The best number of calls in flight up to 500 is looked for first, for the bare loop and for the
pipeline. Where others use the machine, CPU time says more than speed.

To reach: half the speed of the bare loop, never below the official SDK in 20 threads.

``--steady`` runs the pipeline at the documented rate instead and prints its share of a core and its
memory (to reach: 3 %, 100 MB), beside a bare loop at the same rate that writes nothing; ``--growth`` makes 100 000 calls as fast as it can, and prints how
much memory it has as it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
BARE, PACED, PIPELINE, SDK = "bare aiohttp", "paced aiohttp", "pipeline", "official SDK"
SEARCHED = (20, 50, 100, 250, 500)
OTHERS = {"httpx": (20, 0.1), SDK: (20, 0.25), "official async": (20, 0.25)}
"""Calls in flight, and the share of the calls that they make, because they are slow."""
UNLIMITED_PER_SECOND = 100_000.0
STEADY_PER_SECOND = 19.8
SETTLING_SECONDS = 3.0
"""What a start takes is not what a run of days takes."""
GROWTH_CALLS = 100_000


@dataclass(frozen=True)
class Took:
    """What one turn of a contestant took."""

    calls: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    memory_mb: Sequence[float]
    """Resident memory, sampled over the turn."""
    work: Sequence[tuple[float, float]]
    """Seconds since the turn began, and of CPU until then, sampled likewise."""

    @property
    def calls_per_second(self) -> float:
        return self.calls / self.seconds

    @property
    def settled_share_of_a_core(self) -> float:
        """Once it has settled down."""
        settled = [sample for sample in self.work if sample[0] >= SETTLING_SECONDS]
        (began, before), (ended, after) = settled[0], settled[-1]
        return (after - before) / (ended - began)

    @property
    def cpu_ms_per_call(self) -> float:
        return 1000 * self.cpu_seconds / self.calls


@contextmanager
def quick_service() -> Iterator[str]:
    """Its address; a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("quick_service.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    """Of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def turn(
    name: str,
    url: str,
    calls: int,
    concurrency: int,
    *,
    disk: Path,
    rate_per_second: float = UNLIMITED_PER_SECOND,
) -> Took:
    """Let one contestant make its calls."""
    with tempfile.TemporaryDirectory(dir=disk) as run_dir:
        command = [sys.executable, "-m", "tests.benchmarks.contestant", name, url, str(calls)]
        command += [str(concurrency), run_dir, str(rate_per_second)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"{name} did not begin"
            memory_mb: list[float] = []
            work: list[tuple[float, float]] = []
            over = threading.Event()
            began = time.monotonic()

            def sample() -> None:
                while not over.wait(0.5):
                    memory_mb.append(resident_mb(process.pid))
                    work.append((time.monotonic() - began, cpu_seconds(process.pid)))

            sampler = threading.Thread(target=sample)
            sampler.start()
            told = process.stdout.readline()
            over.set()
            sampler.join()
            if process.wait():
                raise SystemExit(f"{name} ended with {process.returncode}")
    return Took(**json.loads(told), memory_mb=memory_mb, work=work)


def best_concurrency(name: str, url: str, calls: int, disk: Path) -> int:
    """By the better of two shorter turns, the two far apart in time."""
    took = [
        (turn(name, url, calls // 4, many, disk=disk).calls_per_second, many)
        for _ in range(2)
        for many in SEARCHED
    ]
    return max(took)[1]


def compared(calls: int, repeats: int, disk: Path) -> dict[str, object]:
    """Everybody in turns; prints a line for each."""
    turns: dict[str, list[Took]] = {name: [] for name in (BARE, PIPELINE, *OTHERS)}
    with quick_service() as url:
        in_flight = {name: best_concurrency(name, url, calls, disk) for name in (BARE, PIPELINE)}
        in_flight |= {name: many for name, (many, _) in OTHERS.items()}
        for _ in range(repeats):
            for name, taken in turns.items():
                share = OTHERS[name][1] if name in OTHERS else 1.0
                many = round(calls * share)
                taken.append(turn(name, url, many, in_flight[name], disk=disk))
    speed = {name: median(x.calls_per_second for x in taken) for name, taken in turns.items()}
    cpu = {name: median(x.cpu_ms_per_call for x in taken) for name, taken in turns.items()}
    print(
        f"{'client':<15} {'in flight':>9} {'calls/s':>8} {'from - to':>15} {'of bare':>8}"
        f" {'CPU ms/call':>12} {'of bare':>8} {'peak MB':>8}"
    )
    for name, taken in turns.items():
        speeds = sorted(x.calls_per_second for x in taken)
        spread = f"{speeds[0]:,.0f} - {speeds[-1]:,.0f}"
        print(
            f"{name:<15} {in_flight[name]:>9} {speed[name]:>8,.0f} {spread:>15}"
            f" {speed[name] / speed[BARE]:>8.2f} {cpu[name]:>12.3f}"
            f" {cpu[BARE] / cpu[name]:>8.2f} {max(x.peak_mb for x in taken):>8.0f}"
        )
    return {
        "calls": calls,
        "in_flight": in_flight,
        "turns": {name: [asdict(x) for x in taken] for name, taken in turns.items()},
        "speed_of_bare": speed[PIPELINE] / speed[BARE],
        "speed_of_official_sdk": speed[PIPELINE] / speed[SDK],
        "cpu_of_bare": cpu[BARE] / cpu[PIPELINE],
    }


def steady(calls: int, repeats: int, disk: Path) -> dict[str, object]:
    """At the documented rate, as long as that takes."""
    turns: dict[str, list[Took]] = {name: [] for name in (PACED, PIPELINE)}
    with quick_service() as url:
        for _ in range(repeats):
            for name, taken in turns.items():
                taken.append(
                    turn(name, url, calls, 256, disk=disk, rate_per_second=STEADY_PER_SECOND)
                )
    share = {
        name: median(x.settled_share_of_a_core for x in taken) for name, taken in turns.items()
    }
    for name, taken in turns.items():
        print(
            f"{name:<15} {calls:,} calls at {median(x.calls_per_second for x in taken):.1f}/s:"
            f" {share[name]:.1%} of a core, {share[name] / share[PACED]:.2f} of {PACED},"
            f" peak {max(x.peak_mb for x in taken):.0f} MB"
        )
    return {
        "steady": {
            name: [asdict(x) | {"share_of_a_core": x.settled_share_of_a_core} for x in taken]
            for name, taken in turns.items()
        }
    }


def growth(disk: Path) -> dict[str, object]:
    """Memory after each tenth of the time; the database's cache fills first."""
    with quick_service() as url:
        took = turn(PIPELINE, url, GROWTH_CALLS, 100, disk=disk)
    tenths = [took.memory_mb[len(took.memory_mb) * tenth // 10 - 1] for tenth in range(1, 11)]
    print(f"{took.calls:,} calls at {took.calls_per_second:,.0f}/s, peak {took.peak_mb:.0f} MB")
    print("  MB after each tenth: " + " ".join(f"{mb:.0f}" for mb in tenths))
    return {"growth": asdict(took), "tenths_mb": tenths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, help="in each turn (20 000; with --steady 400)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--steady", action="store_true", help="at the documented rate")
    parser.add_argument("--growth", action="store_true", help="memory over 100 000 calls")
    parser.add_argument("--disk", type=Path, default=ROOT, help="where runs are planned")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    given = parser.parse_args()
    figures: Mapping[str, object]
    if given.steady:
        figures = steady(given.calls or 400, given.repeats, given.disk)
    elif given.growth:
        figures = growth(given.disk)
    else:
        figures = compared(given.calls or 20_000, given.repeats, given.disk)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
