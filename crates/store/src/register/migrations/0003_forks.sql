ALTER TABLE records ADD COLUMN used_from TEXT;
ALTER TABLE records ADD COLUMN epoch_since INTEGER;

CREATE TABLE forks (
    router_id  TEXT PRIMARY KEY NOT NULL REFERENCES records (router_id) ON DELETE CASCADE,
    older      BLOB NOT NULL CHECK (length(older) = 32),
    newer      INTEGER NOT NULL CHECK (newer >= 0),
    older_from TEXT,
    newer_from TEXT,
    at         INTEGER NOT NULL,
    verdict    INTEGER NOT NULL CHECK (verdict IN (1, 2))
) STRICT, WITHOUT ROWID;
