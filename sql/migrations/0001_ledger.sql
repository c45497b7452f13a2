-- The ledger: one table of events in one total order, one row that says where its end is.

CREATE TABLE ledger_head (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Which ledger this is: containers, locks and exports carry it.
    ledger_id   uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Raised when the ledger is restored from a backup, so that cursors of a lost future are told apart.
    epoch       integer NOT NULL DEFAULT 1,
    position    bigint NOT NULL DEFAULT 0,
    -- The hash of the last event; before the first one, 32 zero bytes.
    hash        bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO ledger_head DEFAULT VALUES;

CREATE TABLE events (
    position    bigint PRIMARY KEY,
    project     text,
    job         uuid,
    run         integer,
    type        text NOT NULL,
    -- json, not jsonb: the hash covers these very bytes.
    data        json NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    actor       text NOT NULL,
    command_id  uuid NOT NULL,
    request_id  text,
    hash        bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX events_of_job ON events (job, position) WHERE job IS NOT NULL;
CREATE INDEX events_of_project ON events (project, position) WHERE project IS NOT NULL;

-- Which commands were carried out, by id, for ever: a repeat finds its first answer here.
CREATE TABLE commands (
    id             uuid PRIMARY KEY,
    digest         bytea,
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger only grows: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER events_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER commands_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON commands
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Read models: every fold's rows, one partition a fold. Made from the events alone, and made again at will.
CREATE TABLE folds (
    fold     text NOT NULL,
    key      text NOT NULL,
    position bigint NOT NULL,
    row      jsonb NOT NULL,
    PRIMARY KEY (fold, key)
) PARTITION BY LIST (fold);
CREATE TABLE fold_status   PARTITION OF folds FOR VALUES IN ('status');
CREATE TABLE fold_quota    PARTITION OF folds FOR VALUES IN ('quota');
CREATE TABLE fold_billing  PARTITION OF folds FOR VALUES IN ('billing');
CREATE TABLE fold_projects PARTITION OF folds FOR VALUES IN ('projects');
CREATE TABLE fold_tokens   PARTITION OF folds FOR VALUES IN ('tokens');
CREATE TABLE fold_prices   PARTITION OF folds FOR VALUES IN ('prices');

CREATE INDEX status_list ON fold_status
    ((row ->> 'project'), ((row ->> 'createdPosition')::bigint) DESC)
    WHERE NOT coalesce((row ->> 'deleted')::boolean, false);
CREATE INDEX status_state ON fold_status ((row ->> 'state'));
CREATE INDEX status_push ON fold_status (key) WHERE row ->> 'pushOrdered' IS NOT NULL;
CREATE INDEX billing_project ON fold_billing ((row ->> 'project'), (row ->> 'job'));
CREATE UNIQUE INDEX tokens_hash ON fold_tokens ((row ->> 'sha256'));

-- Who looks after which engine. The epoch only rises; every command of a supervisor carries it.
CREATE TABLE leases (
    engine     text PRIMARY KEY,
    epoch      bigint NOT NULL,
    holder     text NOT NULL,
    renewed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- The key of each project, sealed by the master key. Destroying a row erases the project's secrets.
CREATE TABLE project_keys (
    id      text PRIMARY KEY,
    project text NOT NULL,
    nonce   bytea NOT NULL,
    box     bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A project has one key; the first of two that are made at once wins.
    UNIQUE (project)
);

-- The service's role: it may add to the ledger, and never change it. Roles belong to the whole cluster.
DO $$
BEGIN
    CREATE ROLE jobyard_service NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database of this cluster made it
END
$$;
GRANT jobyard_service TO CURRENT_USER;
GRANT USAGE ON SCHEMA jobyard TO jobyard_service;
GRANT SELECT, INSERT ON events, commands TO jobyard_service;
GRANT SELECT, UPDATE ON ledger_head TO jobyard_service;
GRANT SELECT, INSERT, UPDATE ON leases TO jobyard_service;
GRANT SELECT, INSERT, DELETE ON project_keys TO jobyard_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON folds TO jobyard_service;
GRANT SELECT ON fold_status, fold_quota, fold_billing, fold_projects, fold_tokens, fold_prices
    TO jobyard_service;
GRANT SELECT ON schema_migrations TO jobyard_service;
