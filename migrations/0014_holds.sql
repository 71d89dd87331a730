-- Failed machines that are kept up for a person, and runs that go on after a verdict.

-- Who is let in to a held machine, and how. The private key is a file (artifact `hold_key`), and only while it is held.
CREATE TABLE run_holds (
    run_id       INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    public_key   TEXT NOT NULL,
    ssh_port     INTEGER,
    ssh_host_key TEXT,
    ssh_problem  TEXT,
    warned       INTEGER NOT NULL DEFAULT 0,
    release_to   TEXT
);

-- Each time a run was taken up again after its verdict, with that verdict.
CREATE TABLE run_reopenings (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id           INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    ts               TIMESTAMP NOT NULL,
    ending           TEXT NOT NULL,
    result           TEXT,
    reasons_json     TEXT NOT NULL,
    -- files of the run up to this one were there before
    last_artifact_id INTEGER NOT NULL
);
CREATE INDEX idx_run_reopenings_run ON run_reopenings (run_id);

-- Stages that were run again: how they had ended. Samples and evaluations of that stage up to these keys are the
-- attempt's, and no longer decide.
CREATE TABLE stage_attempts (
    id                       INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id                   INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    stage_name               TEXT NOT NULL,
    attempt                  INTEGER NOT NULL,
    state                    TEXT NOT NULL,
    started_at               TIMESTAMP,
    completed_at             TIMESTAMP,
    summary_json             TEXT,
    sub_steps_json           TEXT NOT NULL,
    last_measurement_id      INTEGER NOT NULL,
    last_evaluation_id       INTEGER NOT NULL,
    last_limit_evaluation_id INTEGER NOT NULL,
    UNIQUE (run_id, stage_name, attempt)
);
