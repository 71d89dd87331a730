-- What a rule has beyond the columns of `thresholds`; a rule without a row has none of it.
-- `change`, `was` and `note` say what the host's own rules made of the profile's: added, stricter, looser, changed, off.
CREATE TABLE threshold_terms (
    threshold_id    INTEGER PRIMARY KEY REFERENCES thresholds (id) ON DELETE CASCADE,
    sustain_samples INTEGER,
    sustain_ms      INTEGER,
    ends_stage      INTEGER NOT NULL DEFAULT 0,
    required        INTEGER NOT NULL DEFAULT 0,
    change          TEXT,
    was             TEXT,
    note            TEXT
);

-- Specs that several hosts share: `model: NAME` in a host's spec takes this one, and what else stands there on top of it.
CREATE TABLE models (
    name               TEXT PRIMARY KEY,
    expected_spec_yaml TEXT NOT NULL,
    created_at         TIMESTAMP NOT NULL,
    updated_at         TIMESTAMP NOT NULL
);

-- The spec that a run was ordered with, its model's taken in, and the model's name. `product` is what the machine calls
-- itself, once it told.
CREATE TABLE run_specs (
    run_id             INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    model              TEXT,
    product            TEXT,
    expected_spec_yaml TEXT NOT NULL
);
CREATE INDEX idx_run_specs_model ON run_specs (model, product);

-- Which part with a serial number was where, in which run.
CREATE TABLE run_components (
    run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    kind   TEXT NOT NULL,
    serial TEXT NOT NULL,
    model  TEXT,
    place  TEXT NOT NULL,
    PRIMARY KEY (run_id, kind, serial)
);
CREATE INDEX idx_run_components_serial ON run_components (serial);

-- The figures by which a run is compared with those of its siblings: the largest value of a quantity in a stage.
CREATE TABLE run_metrics (
    run_id     INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    stage_name TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      REAL NOT NULL,
    unit       TEXT NOT NULL,
    PRIMARY KEY (run_id, stage_name, kind, key)
);
