-- Limits that the machine's hardware gives for its own sensors become rules of the run once the agent has read them. The
-- rules of `thresholds` are fixed when the run is created, so these have tables of their own.

-- `op`, `severity` as in `thresholds`; `key` is the sensor's key itself. `ignored` says why a limit is not believed and
-- judges nothing.
CREATE TABLE hardware_limits (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id    INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    kind      TEXT NOT NULL,
    key       TEXT NOT NULL,
    op        TEXT NOT NULL,
    threshold REAL NOT NULL,
    unit      TEXT NOT NULL,
    severity  TEXT NOT NULL,
    origin    TEXT NOT NULL,
    observed  REAL,
    ignored   TEXT,
    UNIQUE (run_id, kind, key, op, severity, threshold)
);

-- As `threshold_evaluations`.
CREATE TABLE hardware_limit_evaluations (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id     INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    limit_id   INTEGER NOT NULL REFERENCES hardware_limits (id) ON DELETE CASCADE,
    stage_name TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    ts         TIMESTAMP NOT NULL,
    observed   REAL NOT NULL,
    passed     INTEGER NOT NULL
);
CREATE INDEX idx_hardware_limit_evals_run ON hardware_limit_evaluations (run_id, passed);
CREATE INDEX idx_hardware_limit_evals_limit ON hardware_limit_evaluations (limit_id);

-- Rules of `thresholds` that stand back where the hardware gives a limit of its own.
CREATE TABLE fallback_thresholds (
    threshold_id INTEGER PRIMARY KEY REFERENCES thresholds (id) ON DELETE CASCADE
);
