-- Stages that draw much power wait for their turn. One row a run that waits, or has its turn; it goes when the stage or
-- the run is over. `number` is the order in which they came. `measured_watts` is the largest power of the machine's earlier
-- runs, of the whole machine or (measured_whole = 0) of parts of it; NULL where there is none.
CREATE TABLE turns (
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id         INTEGER NOT NULL UNIQUE REFERENCES runs (id) ON DELETE CASCADE,
    stage_name     TEXT NOT NULL,
    measured_watts REAL,
    measured_whole INTEGER NOT NULL DEFAULT 0,
    asked_at       TIMESTAMP NOT NULL,
    told           INTEGER NOT NULL DEFAULT 0,
    granted_at     TIMESTAMP
);

-- What a machine draws in its hardest stage, as an operator said.
CREATE TABLE host_burn_watts (
    host_id INTEGER PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    watts   INTEGER NOT NULL
);
