-- name: prepare
CREATE SCHEMA IF NOT EXISTS jobyard;
CREATE TABLE IF NOT EXISTS jobyard.schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: lock
SELECT pg_advisory_xact_lock(7106228742155617)

-- name: try_lock
SELECT pg_try_advisory_xact_lock(7106228742155617)

-- name: applied
SELECT version, name, sha256 FROM schema_migrations ORDER BY version

-- name: record
INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)

-- name: has_events
SELECT EXISTS (SELECT FROM events)
