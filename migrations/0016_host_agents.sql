-- Agents in host mode: on the installed system of a registered machine. One token a host, only its hash; what its
-- machine was made of when it was last told.

CREATE TABLE host_agents (
    host_id       INTEGER PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    token_hash    TEXT NOT NULL UNIQUE,
    created_at    TIMESTAMP NOT NULL,
    boot_id       TEXT,
    agent_version TEXT
);

CREATE TABLE host_inventories (
    host_id        INTEGER PRIMARY KEY REFERENCES hosts (id) ON DELETE CASCADE,
    taken_at       TIMESTAMP NOT NULL,
    sha256         TEXT NOT NULL,
    inventory_json TEXT NOT NULL
);
