-- What operators decided not to count against a machine. `finding` tells all that was found, `found` the same in words.
-- Rows are never removed: one that was taken back says so.
CREATE TABLE waivers (
    run_id           INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number           INTEGER NOT NULL,
    finding          TEXT NOT NULL,
    found            TEXT NOT NULL,
    reason           TEXT NOT NULL,
    operator         TEXT NOT NULL,
    given_at         TIMESTAMP NOT NULL,
    withdrawn_reason TEXT,
    withdrawn_by     TEXT,
    withdrawn_at     TIMESTAMP,
    PRIMARY KEY (run_id, number)
);
-- No finding is waived twice at a time.
CREATE UNIQUE INDEX idx_waivers_standing ON waivers (run_id, finding) WHERE withdrawn_at IS NULL;

-- Each verdict that a run ever had, one a report. `run_verdicts` has the newest.
CREATE TABLE run_judgements (
    run_id       INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    version      INTEGER NOT NULL,
    made_at      TIMESTAMP NOT NULL,
    result       TEXT NOT NULL,
    verdict_json TEXT NOT NULL,
    PRIMARY KEY (run_id, version)
);
