"""A yardstick: DuckDB alone, distinct and group. ``python duckdb_distinct.py FILE SCRATCH MEMORY``.

Prints ``[PAIRS, PERSONS]``. It validates and keeps nothing; ``SCRATCH`` takes what memory does not hold.
"""

import sys

import duckdb

file, scratch, memory = sys.argv[1:]
READERS = {
    "parquet": "read_parquet(?)",
    "csv": "read_csv(?, header = true, all_varchar = true)",
}
reader = READERS[file.rpartition(".")[2]]
connection = duckdb.connect(config={"memory_limit": memory, "temp_directory": scratch})
# The reader is one of the two above.
counted = connection.execute(
    f"""
    SELECT sum(len(faces))::BIGINT, count(*) FROM (
      SELECT person_id, list(face_id) AS faces
      FROM (SELECT DISTINCT person_id, face_id FROM {reader}) GROUP BY person_id)
    """,  # noqa: S608 (no text from outside)
    [file],
).fetchall()
print(list(counted[0]))
