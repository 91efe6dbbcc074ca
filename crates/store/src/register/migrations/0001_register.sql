CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE routers (
    id                  TEXT PRIMARY KEY NOT NULL,
    name                TEXT NOT NULL UNIQUE,
    kind                INTEGER NOT NULL CHECK (kind IN (1, 2)),
    role_attributes     TEXT NOT NULL,
    is_tunneler_enabled INTEGER NOT NULL CHECK (is_tunneler_enabled IN (0, 1)),
    cost                INTEGER NOT NULL CHECK (cost BETWEEN 0 AND 65535),
    no_traversal        INTEGER NOT NULL CHECK (no_traversal IN (0, 1)),
    app_data            TEXT NOT NULL,
    tags                TEXT NOT NULL,
    extra               TEXT NOT NULL,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    seen_at             INTEGER,
    seen_hostname       TEXT,
    seen_version        TEXT,
    seen_details        TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    router_id     TEXT PRIMARY KEY NOT NULL REFERENCES routers (id) ON DELETE CASCADE,
    epoch         INTEGER NOT NULL CHECK (epoch >= 0),
    standing      INTEGER NOT NULL CHECK (standing IN (1, 2, 3)),
    last_seq      INTEGER NOT NULL CHECK (last_seq >= 0),
    used_seq      INTEGER CHECK (used_seq <= last_seq),
    first_use     INTEGER CHECK ((first_use IS NULL) = (used_seq IS NULL)),
    restored_from INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE leaves (
    router_id         TEXT NOT NULL REFERENCES records (router_id) ON DELETE CASCADE,
    seq               INTEGER NOT NULL CHECK (seq >= 0),
    client_sha256     BLOB NOT NULL CHECK (length(client_sha256) = 32),
    client_key        BLOB NOT NULL CHECK (length(client_key) = 32),
    client_not_before INTEGER NOT NULL,
    client_not_after  INTEGER NOT NULL,
    server_sha256     BLOB NOT NULL CHECK (length(server_sha256) = 32),
    server_key        BLOB NOT NULL CHECK (length(server_key) = 32),
    server_not_before INTEGER NOT NULL,
    server_not_after  INTEGER NOT NULL,
    asked_client_key  BLOB NOT NULL CHECK (length(asked_client_key) = 32),
    asked_server_key  BLOB NOT NULL CHECK (length(asked_server_key) = 32),
    asked_names       BLOB NOT NULL CHECK (length(asked_names) = 32),
    issued_at         INTEGER NOT NULL,
    stage             INTEGER NOT NULL CHECK (stage IN (1, 2, 3)),
    PRIMARY KEY (router_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE chains (
    number      INTEGER PRIMARY KEY,
    router_id   TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    client_sha1 BLOB NOT NULL CHECK (length(client_sha1) = 20),
    client_pem  TEXT NOT NULL,
    server_pem  TEXT NOT NULL,
    UNIQUE (router_id, seq),
    FOREIGN KEY (router_id, seq) REFERENCES leaves (router_id, seq) ON DELETE CASCADE
) STRICT;

CREATE INDEX chains_by_sha1 ON chains (client_sha1);

CREATE TABLE tokens (
    router_id TEXT PRIMARY KEY NOT NULL REFERENCES records (router_id) ON DELETE CASCADE,
    sha256    BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    kind      INTEGER NOT NULL CHECK (kind IN (1, 2)),
    expires   INTEGER NOT NULL,
    enrolled  INTEGER,
    jti       TEXT NOT NULL,
    jwt       TEXT NOT NULL
) STRICT;

CREATE TABLE audit (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    router_id TEXT,
    at        INTEGER NOT NULL,
    last_at   INTEGER NOT NULL,
    count     INTEGER NOT NULL CHECK (count >= 1),
    actor     TEXT NOT NULL,
    event     TEXT NOT NULL,
    detail    TEXT NOT NULL
) STRICT;

CREATE INDEX audit_by_router ON audit (router_id, seq);

CREATE TRIGGER audit_is_never_erased BEFORE DELETE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit trail is append-only');
END;

CREATE TRIGGER audit_is_never_rewritten BEFORE UPDATE OF seq, router_id, at, actor, event, detail ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit trail is append-only');
END;

CREATE TABLE admins (
    id            TEXT PRIMARY KEY NOT NULL,
    name          TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
