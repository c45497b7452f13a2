-- Jobs have keys of their own: what a job's specification seals is erased without the project's other secrets.
-- A job's key lies sealed under its project's, and goes with it. Its id is `<the project's key>.<its own>`.
CREATE TABLE job_keys (
    id          text PRIMARY KEY,
    job         uuid NOT NULL UNIQUE,
    project_key text NOT NULL REFERENCES project_keys (id) ON DELETE CASCADE,
    nonce       bytea NOT NULL,
    box         bytea NOT NULL,
    -- When it was made, or asked for again by a submit that is repeated.
    made_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX job_keys_of_project ON job_keys (project_key);
GRANT SELECT, INSERT, DELETE ON job_keys TO jobyard_service;
GRANT UPDATE (made_at) ON job_keys TO jobyard_service;

-- What is deleted here is to be gone from the files as well, and soon, even when nobody could see to it at once.
ALTER TABLE project_keys SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE job_keys SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);

-- Few among many: every process looks for new ones as the ledger grows.
CREATE INDEX events_key_destroyed ON events (position) WHERE type IN ('KeyDestroyed', 'ProjectKeyDestroyed');

-- What concerns no job, and no project: few among many, and asked for by themselves (incident bundles).
CREATE INDEX events_of_project_alone ON events (project, position) WHERE job IS NULL AND project IS NOT NULL;
CREATE INDEX events_of_yard ON events (position) WHERE project IS NULL;
