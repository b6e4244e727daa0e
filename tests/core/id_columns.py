"""Columns of IDs as accounts have them, and what programs make of them on the way.

Each maker takes a source of chance and a number of rows and gives as many distinct IDs; each
spoiler takes one ID.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Maker = Callable[[random.Random, int], list[str]]


def _distinct(draw: Callable[[], str], rows: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < rows:
        found[draw()] = None
    return list(found)


def digits(width: int) -> Maker:
    """Random, of one width, without leading zeros."""
    return lambda chance, rows: _distinct(
        lambda: str(chance.randrange(10 ** (width - 1), 10**width)), rows
    )


def padded(width: int) -> Maker:
    """Random, of one width, zeros in front included."""
    return lambda chance, rows: _distinct(
        lambda: str(chance.randrange(10**width)).zfill(width), rows
    )


def sequence(chance: random.Random, rows: int) -> list[str]:
    """17 digits, one after the other, as a bulk upload leaves them."""
    start = chance.randrange(10**16, 9 * 10**16)
    return [str(start + n) for n in range(rows)]


def gapped_sequence(chance: random.Random, rows: int) -> list[str]:
    """17 digits, counted up with gaps, in order."""
    number, found = chance.randrange(10**16, 8 * 10**16), []
    for _ in range(rows):
        number += chance.randrange(1, 1000)
        found.append(str(number))
    return found


def snowflakes(busy: float, worker_bits: int = 10, sequence_bits: int = 12) -> Maker:
    """Milliseconds, worker and sequence; ``busy`` is how often the sequence is not 0."""

    def make(chance: random.Random, rows: int) -> list[str]:
        workers = [chance.randrange(2**worker_bits) for _ in range(4)]

        def draw() -> str:
            milliseconds = chance.randrange(4 * 10**11, 5 * 10**11)
            step = chance.randrange(1, 40) if chance.random() < busy else 0
            shifted = (milliseconds << worker_bits) + chance.choice(workers)
            return str((shifted << sequence_bits) + step)

        return _distinct(draw, rows)

    return make


def sonyflakes(chance: random.Random, rows: int) -> list[str]:
    """Ten milliseconds, sequence, and 16 bits of one machine at the low end."""
    machine = chance.randrange(2**16)
    return _distinct(
        lambda: str((chance.randrange(10**10) << 24) + (chance.randrange(3) << 16) + machine), rows
    )


def nanoseconds(step: int) -> Maker:
    """19 digits: times since the epoch that only count in steps of ``step``."""
    return lambda chance, rows: _distinct(
        lambda: str(
            chance.randrange(1_600_000_000 * 10**9 // step, 1_790_000_000 * 10**9 // step) * step
        ),
        rows,
    )


def numbers_below(limit: int) -> Maker:
    """Some of the natural numbers that a counter had reached: of any width."""
    return lambda chance, rows: _distinct(lambda: str(chance.randrange(1, limit)), rows)


def some_counter(chance: random.Random, rows: int) -> list[str]:
    """The same, with a counter anywhere between 6 and 16 digits."""
    return numbers_below(round(10 ** chance.uniform(6.5, 15.5)))(chance, rows)


def counted(chance: random.Random, rows: int) -> list[str]:
    """Natural numbers from 1 on, every one."""
    return [str(n) for n in range(1, rows + 1)]


UNHARMED: dict[str, Maker] = {
    "13 digits": digits(13),
    "16 digits": digits(16),
    "17 digits": digits(17),
    "18 digits": digits(18),
    "19 digits": digits(19),
    "32 digits": digits(32),
    "13 digits, padded": padded(13),
    "17 digits, padded": padded(17),
    "17 digits in sequence": sequence,
    "17 digits in sequence, gaps": gapped_sequence,
    "snowflake, idle": snowflakes(0),
    "snowflake, 10 % busy": snowflakes(0.1),
    "snowflake, half busy": snowflakes(0.5),
    "snowflake, busy": snowflakes(1),
    "snowflake, 5 and 8 bits": snowflakes(0.1, 5, 8),
    "sonyflake": sonyflakes,
    "microseconds in ns": nanoseconds(1_000),
    "milliseconds in ns": nanoseconds(1_000_000),
    "seconds in ns": nanoseconds(1_000_000_000),
    "counted from 1": counted,
    "of some counter": some_counter,
}


def as_double(text: str) -> str:
    """Through a double, written with all its digits: C, Java's BigDecimal, pandas, Python."""
    return str(int(float(text)))


def as_javascript(text: str) -> str:
    """Through a double, written with the fewest digits that name it: ``JSON.stringify``."""
    mantissa, _, exponent = f"{float(text)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    return whole + fraction.ljust(int(exponent), "0") if exponent else whole


def as_spreadsheet(text: str) -> str:
    """As a number in a cell: 15 significant digits."""
    return f"{text[:15]}{'0' * (len(text) - 15)}"


def without_zeros(text: str) -> str:
    """As a number, whatever the program."""
    return text.lstrip("0") or "0"
