-- Machines that nobody registered: what lets them in, who waits, and by what a registered one is recognised.

-- Further cards of a host; hosts.mac stays the one it boots from. No address is at two hosts, here and there together.
CREATE TABLE host_macs (
    mac      TEXT PRIMARY KEY,
    host_id  INTEGER NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    added_at TIMESTAMP NOT NULL
);
CREATE INDEX idx_host_macs_host ON host_macs (host_id);

-- The SMBIOS UUID of the machine that was taken in or first claimed a run; no row where it has none that tells it apart.
CREATE TABLE host_identities (
    host_id     INTEGER PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    system_uuid TEXT NOT NULL,
    recorded_at TIMESTAMP NOT NULL
);

CREATE TABLE enrolment_tokens (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    token_hash         TEXT NOT NULL UNIQUE,
    uses_allowed       INTEGER NOT NULL,
    uses               INTEGER NOT NULL DEFAULT 0,
    name_pattern       TEXT NOT NULL,
    expected_spec_yaml TEXT NOT NULL,
    start_profile      TEXT,
    created_at         TIMESTAMP NOT NULL,
    expires_at         TIMESTAMP NOT NULL,
    revoked_at         TIMESTAMP
);

-- Machines that asked and were not taken in at once. Rows past their time are removed: anyone can make them.
CREATE TABLE enrolments (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    code          TEXT NOT NULL UNIQUE,
    ticket_hash   TEXT NOT NULL UNIQUE,
    state         TEXT NOT NULL,
    host_id       INTEGER REFERENCES hosts (id) ON DELETE CASCADE,
    identity_json TEXT NOT NULL,
    mac           TEXT NOT NULL,
    address       TEXT NOT NULL,
    note          TEXT,
    created_at    TIMESTAMP NOT NULL,
    last_seen_at  TIMESTAMP NOT NULL
);
CREATE INDEX idx_enrolments_host ON enrolments (host_id);
