"""A yardstick: what a script of ten lines does with a CSV. ``python dict_of_sets.py FILE``.

Prints ``[PAIRS, PERSONS]``. It validates nothing, keeps nothing, and holds everything in memory.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

persons: defaultdict[str, set[str]] = defaultdict(set)
with Path(sys.argv[1]).open(newline="") as file:
    reader = csv.reader(file)
    next(reader)
    for person_id, face_id in reader:
        persons[person_id].add(face_id)
print([sum(map(len, persons.values())), len(persons)])
