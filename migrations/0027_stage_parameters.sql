-- What each stage of a run was ordered with, JSON: limit and parameters. NULL in runs from before this was kept.
ALTER TABLE run_plan_stages ADD COLUMN planned_json TEXT;

-- The stages of a run that the machine's spec has otherwise than the profile: what it made of each, in words.
CREATE TABLE run_stage_changes (
    run_id     INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    stage_name TEXT NOT NULL,
    ordinal    INTEGER NOT NULL,
    change     TEXT NOT NULL,
    now        TEXT,
    was        TEXT,
    note       TEXT NOT NULL,
    PRIMARY KEY (run_id, stage_name)
);
