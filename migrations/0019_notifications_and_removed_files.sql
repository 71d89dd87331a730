-- What is told to receivers outside, and files that are no longer on disk.

-- One row a receiver and event; `event_id` is NULL for a test. It names no run, so that a host that is removed takes
-- nothing along that was not told yet. Rows that are done are removed after a while.
CREATE TABLE notifications (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    receiver        TEXT NOT NULL,
    event_id        INTEGER,
    state           TEXT NOT NULL,
    message_json    TEXT NOT NULL,
    created_at      TIMESTAMP NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_ms INTEGER NOT NULL,
    last_error      TEXT,
    finished_at     TIMESTAMP,
    UNIQUE (receiver, event_id)
);
CREATE INDEX idx_notifications_due ON notifications (receiver, state, next_attempt_ms);

-- Files that the janitor removed. Their rows in `artifacts` stay.
CREATE TABLE artifact_removals (
    artifact_id INTEGER PRIMARY KEY REFERENCES artifacts (id) ON DELETE CASCADE,
    removed_at  TIMESTAMP NOT NULL
);
