-- Crashes that are not explained yet: what only the moment knew, JSON. A row goes once the crash is named in the run's ending.
CREATE TABLE unexplained_crashes (
    run_id      INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    traces_json TEXT NOT NULL
);
