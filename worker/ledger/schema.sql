-- The ledger of one run. IDs are TEXT in STRICT tables: any other affinity eats leading zeros.
-- Times are INTEGER microseconds since the epoch, UTC.

-- What was fixed when the plan became durable; values are JSON.
CREATE TABLE run (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The sources in the order they were named; carried_columns is a JSON array of names.
CREATE TABLE source (
  source_no       INTEGER PRIMARY KEY,
  name            TEXT NOT NULL,
  format          TEXT NOT NULL,
  sha256          TEXT NOT NULL,
  byte_count      INTEGER NOT NULL,
  records         INTEGER NOT NULL,
  entries         INTEGER NOT NULL,
  blank_lines     INTEGER NOT NULL,
  carried_columns TEXT NOT NULL
) STRICT;

-- The row map: one row per face of each record, in input order, packed by column (worker.ledger.rowmap);
-- never changed after the plan. The seal is a digest over the data and its place.
CREATE TABLE row_block (
  first_row INTEGER PRIMARY KEY,
  rows      INTEGER NOT NULL,
  invalid   INTEGER NOT NULL,  -- how many of them were refused
  data      BLOB NOT NULL,
  seal      BLOB NOT NULL
) STRICT;

-- What planning made of rows that it did not leave as they were: repeated, held, in conflict.
CREATE TABLE amendment_block (
  first_row INTEGER PRIMARY KEY,
  rows      INTEGER NOT NULL,
  data      BLOB NOT NULL,
  seal      BLOB NOT NULL
) STRICT;

-- The planned calls in their order, packed likewise (worker.ledger.tape): one call per person, or more
-- above the service's maximum of faces; always one for a person of whom everything is to go.
CREATE TABLE plan_block (
  first_call_no INTEGER PRIMARY KEY,
  calls         INTEGER NOT NULL,
  persons       INTEGER NOT NULL,  -- those whose last call is among them
  faces         INTEGER NOT NULL,  -- named ones
  data          BLOB NOT NULL,
  seal          BLOB NOT NULL
) STRICT;

-- The first planned call that nobody has begun yet: all before it have rows in call, of those behind
-- it only few.
CREATE TABLE frontier (
  frontier_no INTEGER PRIMARY KEY CHECK (frontier_no = 1),
  call_no     INTEGER NOT NULL
) STRICT;
INSERT INTO frontier VALUES (1, 0);

-- When rows that are to be sent are due, as far as the input says so, and by which calls; microseconds
-- since the epoch, UTC. The last call is that of the row's person.
CREATE TABLE due (
  row_no       INTEGER PRIMARY KEY,
  due_us       INTEGER NOT NULL,
  record_no    INTEGER NOT NULL,
  source_no    INTEGER NOT NULL,
  line         INTEGER NOT NULL,
  first_row    INTEGER NOT NULL,
  call_no      INTEGER NOT NULL,
  last_call_no INTEGER NOT NULL
) STRICT;

-- In a run with whole persons: every face that the input names, with its call where it has one.
CREATE TABLE named (
  face_id   TEXT NOT NULL,
  person_id TEXT NOT NULL,
  call_no   INTEGER,
  PRIMARY KEY (face_id, person_id)
) STRICT, WITHOUT ROWID;

-- The exclusion list as far as this run knows it; face_id '' means the whole person.
CREATE TABLE hold (
  person_id TEXT NOT NULL,
  face_id   TEXT NOT NULL,
  PRIMARY KEY (person_id, face_id)
) STRICT, WITHOUT ROWID;

-- The calls that were begun, or of which something else is known than the plan says. The other faces of
-- a person of whom everything is to go (whole = 1) are found by looking.
CREATE TABLE call (
  call_no       INTEGER PRIMARY KEY,
  person_id     TEXT NOT NULL,
  whole         INTEGER NOT NULL,
  state         INTEGER NOT NULL,  -- 0 waiting, 1 claimed, 2 settled
  step          TEXT NOT NULL,     -- what it waits for: delete, lookup, verify, remove; '' nothing
  not_before_us INTEGER NOT NULL,  -- 0 means at once
  seal          BLOB NOT NULL      -- digest over run, person and faces, checked at every claim
) STRICT;
CREATE INDEX call_waiting ON call (step, not_before_us, call_no) WHERE state = 0;
CREATE INDEX call_claimed ON call (call_no) WHERE state = 1;
CREATE INDEX call_person ON call (person_id);

-- The faces of each call with their standing, which worker.fold derives from the evidence. The line
-- of a whole person itself is a row with face_id ''; faces that were found name its row as theirs.
CREATE TABLE face (
  face_no       INTEGER PRIMARY KEY,  -- those of the plan: adjacent within a call
  call_no       INTEGER NOT NULL,
  first_row     INTEGER NOT NULL,
  source_no     INTEGER NOT NULL,     -- of that row, as is the line
  line          INTEGER NOT NULL,
  face_id       TEXT NOT NULL,
  found_by      INTEGER,              -- ending.seq of the lookup that first listed it; NULL: planned
  step          TEXT NOT NULL,        -- what it waits for: delete, lookup, remove; '' nothing
  outcome       TEXT NOT NULL,
  code          TEXT NOT NULL,
  attempts      INTEGER NOT NULL,
  first_sent_us INTEGER,
  decided_by    INTEGER               -- ending.seq
) STRICT;
CREATE INDEX face_first_row ON face (first_row);
CREATE INDEX face_call ON face (call_no);
CREATE INDEX face_unknown ON face (call_no) WHERE outcome = 'unknown';
CREATE INDEX face_again ON face (call_no) WHERE outcome IN ('present', 'no_person', 'refused');

-- Faces that lookups have shown to be under two persons; sent for neither from then on.
CREATE TABLE contested (
  face_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Attempts, written before the first byte of their request; append-only.
-- attempt.seq and ending.seq are drawn from one counter: they tell what came after what.
CREATE TABLE attempt (
  seq         INTEGER PRIMARY KEY,
  call_no     INTEGER NOT NULL,
  operation   TEXT NOT NULL,
  step        TEXT NOT NULL,
  nonce       TEXT NOT NULL,
  body_sha256 TEXT NOT NULL,
  face_ids    TEXT NOT NULL,  -- JSON array; [] of a lookup: it asks about every face of the person
  opened_us   INTEGER NOT NULL
) STRICT;
CREATE INDEX attempt_call ON attempt (call_no);

-- How attempts ended; append-only.
CREATE TABLE ending (
  seq                 INTEGER PRIMARY KEY,
  attempt_seq         INTEGER NOT NULL UNIQUE,
  kind                TEXT NOT NULL,
  ended_us            INTEGER NOT NULL,
  sent_us             INTEGER,
  http_status         INTEGER,
  code                TEXT NOT NULL,
  message             TEXT NOT NULL,
  request_id          TEXT NOT NULL,
  listed              TEXT NOT NULL,  -- JSON array
  retry_after_seconds REAL
) STRICT;

-- Distinct faces per outcome, kept in the same transactions as the faces themselves.
CREATE TABLE tally (
  outcome TEXT PRIMARY KEY,
  faces   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Calls that are to be looked up once more after since_seq, when everything about them is settled.
CREATE TABLE verification (
  call_no   INTEGER PRIMARY KEY,
  since_seq INTEGER NOT NULL
) STRICT;

-- The stages of the canary: no call beyond last_call_no may be claimed before they have passed.
CREATE TABLE canary (
  stage_no     INTEGER PRIMARY KEY,
  persons      INTEGER NOT NULL,  -- of all stages up to this one
  last_call_no INTEGER NOT NULL,
  passed_us    INTEGER            -- NULL: not yet
) STRICT;

-- Each stretch of work on the run; an end that is missing means that the process died.
-- Evidence after first_seq is of this session or later. A round begins with a session whose verb is
-- run or retry: attempts are counted anew from there.
CREATE TABLE session (
  session_no  INTEGER PRIMARY KEY,
  verb        TEXT NOT NULL,     -- run, resume, retry or verify
  rules       TEXT NOT NULL,     -- JSON: by what its evidence is folded (worker.fold.Rules)
  first_seq   INTEGER NOT NULL,
  started_us  INTEGER NOT NULL,
  ended_us    INTEGER,
  stop_reason TEXT,              -- 'killed' without an end: a later process has found it dead
  detail      TEXT NOT NULL,
  waits       TEXT NOT NULL  -- JSON object: reason to seconds
) STRICT;

-- What somebody asked of a session at work, written by a process of its own; append-only.
CREATE TABLE command (
  seq             INTEGER PRIMARY KEY,
  session_no      INTEGER NOT NULL,
  ask             TEXT NOT NULL CHECK (ask IN ('pause', 'unpause', 'rate', 'stop')),
  rate_per_second REAL CHECK ((rate_per_second IS NOT NULL) = (ask = 'rate')),
  given_us        INTEGER NOT NULL,
  given_by        TEXT NOT NULL   -- user@host and process
) STRICT;

-- Who came first to it: the session that takes it up, or its giver who waits no longer; append-only.
CREATE TABLE command_decided (
  command_seq  INTEGER PRIMARY KEY,
  is_withdrawn INTEGER NOT NULL,
  decided_us   INTEGER NOT NULL
) STRICT;

-- What the session made of it; append-only. A command without it was never taken.
CREATE TABLE command_taken (
  command_seq INTEGER PRIMARY KEY,
  taken_us    INTEGER NOT NULL,
  said        TEXT NOT NULL,
  remedy      TEXT NOT NULL,
  refused     INTEGER NOT NULL
) STRICT;

-- What the process at work last said of itself: one row, written over now and then.
CREATE TABLE pulse (
  pulse_no                   INTEGER PRIMARY KEY CHECK (pulse_no = 1),
  session_no                 INTEGER NOT NULL,
  condition                  TEXT NOT NULL,  -- running, paused or draining
  waiting                    TEXT NOT NULL,
  paused_by                  TEXT NOT NULL,
  rate_now_per_second        REAL NOT NULL,
  mean_rate_per_second       REAL NOT NULL,
  rate_configured_per_second REAL NOT NULL,
  rate_allowed_per_second    REAL NOT NULL,
  calls_in_flight            INTEGER NOT NULL,
  calls_sent                 INTEGER NOT NULL,
  ends_us                    INTEGER,
  pid                        INTEGER NOT NULL,
  host                       TEXT NOT NULL,
  beat_us                    INTEGER NOT NULL
) STRICT;
