-- What the coordinator needs to lead a run, beyond the contract: its own tables, and indexes on the contract's, but no
-- column on them.

-- One claim of a run each: the first boot, and every boot after a planned reboot.
CREATE TABLE run_sessions (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id            INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    claim_secret_hash TEXT NOT NULL UNIQUE,
    claim_expires_at  TIMESTAMP NOT NULL,
    claimed_at        TIMESTAMP,
    claimed_from      TEXT,
    boot_id           TEXT,
    token_hash        TEXT UNIQUE,
    last_sequence     INTEGER NOT NULL DEFAULT 0,
    created_at        TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_run_sessions_run ON run_sessions (run_id);

-- The stages a run was ordered with, in their order, and which of them it needs to pass: a profile may be replaced later.
CREATE TABLE run_plan_stages (
    run_id     INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    stage_name TEXT NOT NULL,
    ordinal    INTEGER NOT NULL,
    required   INTEGER NOT NULL,
    PRIMARY KEY (run_id, stage_name)
);

-- Where the time before the stages went. `kernel_*` count from the kernel's start, the others from the Unix epoch.
CREATE TABLE run_timeline (
    run_id               INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    woken_ms             INTEGER,
    script_served_ms     INTEGER,
    image_served_ms      INTEGER,
    claimed_ms           INTEGER,
    kernel_to_init_ms    INTEGER,
    kernel_to_network_ms INTEGER,
    kernel_to_claim_ms   INTEGER,
    last_contact_ms      INTEGER,
    last_contact_ip      TEXT,
    state_since_ms       INTEGER
);

-- What closed a run's pipeline, what there is to know of that, and why the result is what it is.
CREATE TABLE run_verdicts (
    run_id       INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    ending       TEXT NOT NULL,
    ending_json  TEXT,
    result       TEXT,
    reasons_json TEXT NOT NULL DEFAULT '[]'
);

CREATE TABLE operator_tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL UNIQUE,
    token_hash   TEXT NOT NULL UNIQUE,
    created_at   TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_used_at TIMESTAMP,
    revoked_at   TIMESTAMP
);

-- Lists of one run, and deletions: without these, each threshold or stage that a removed host takes with it would scan
-- every evaluation or sample there is. They cost about a tenth of an insert.
CREATE INDEX idx_threshold_evals_threshold ON threshold_evaluations (threshold_id);
CREATE INDEX idx_measurements_stage ON measurements (stage_id);
CREATE INDEX idx_events_run ON events (run_id, id);
CREATE INDEX idx_events_host ON events (host_id);
CREATE INDEX idx_artifacts_run ON artifacts (run_id);
CREATE INDEX idx_artifacts_stage ON artifacts (stage_id);
CREATE INDEX idx_spec_diffs_run ON spec_diffs (run_id);
