-- People who use the web page, and roles.

-- A name stays a person's: events name it. Rows are never removed, so a disabled one says so. `role` as in operator_tokens:
-- viewer or operator. `password_hash` is an argon2id hash in its PHC form.
CREATE TABLE users (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT NOT NULL UNIQUE,
    role            TEXT NOT NULL,
    password_hash   TEXT NOT NULL,
    created_at      TIMESTAMP NOT NULL,
    password_set_at TIMESTAMP NOT NULL,
    last_login_at   TIMESTAMP,
    disabled_at     TIMESTAMP
);

-- Browsers that are logged in, by the hash of their cookie. `way` is password or proxy.
CREATE TABLE user_sessions (
    token_hash   TEXT PRIMARY KEY,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    way          TEXT NOT NULL,
    address      TEXT NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    last_used_at TIMESTAMP NOT NULL,
    expires_at   TIMESTAMP NOT NULL
);
CREATE INDEX idx_user_sessions_user ON user_sessions (user_id);

-- Tokens from before were good for everything and for ever.
ALTER TABLE operator_tokens ADD COLUMN role TEXT NOT NULL DEFAULT 'operator';
ALTER TABLE operator_tokens ADD COLUMN expires_at TIMESTAMP;
