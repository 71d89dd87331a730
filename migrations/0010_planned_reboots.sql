-- Reboots that stages planned: why, for how long, and what was seen of the machine meanwhile.
CREATE TABLE planned_reboots (
    run_id       INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL,
    stage_name   TEXT NOT NULL,
    target       TEXT NOT NULL,
    budget_ms    INTEGER NOT NULL,
    announced_ms INTEGER NOT NULL,
    returned_ms  INTEGER,
    memtest_json TEXT,
    PRIMARY KEY (run_id, ordinal)
);

-- The serial line of a host, as its operator wrote it: tcp://HOST:PORT, device:PATH or ipmi://HOST.
CREATE TABLE host_serial_consoles (
    host_id INTEGER PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    console TEXT NOT NULL
);
