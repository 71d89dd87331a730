-- Runs that a machine went through without a coordinator, and that were imported from the folder they left. The uuid
-- keeps a run from being imported twice.
CREATE TABLE imported_runs (
    uuid        TEXT PRIMARY KEY,
    run_id      INTEGER NOT NULL UNIQUE REFERENCES runs (id) ON DELETE CASCADE,
    imported_at TIMESTAMP NOT NULL
);
