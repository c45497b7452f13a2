-- Webhooks: the read model, and beside the ledger how far each has come. A delivery is no event, or it would
-- have to be delivered.
CREATE TABLE fold_webhooks PARTITION OF folds FOR VALUES IN ('webhooks');
GRANT SELECT ON fold_webhooks TO jobyard_service;

-- What is wanted at or below `position` was delivered, except what `webhook_lines` holds back.
CREATE TABLE webhook_cursors (
    webhook       text PRIMARY KEY,
    -- The event that said where to begin; another one means to begin there.
    start         bigint NOT NULL,
    -- The last event about the webhook that was taken account of: a later one ends every pause between attempts.
    touched       bigint NOT NULL,
    position      bigint NOT NULL,
    -- Of the endpoint as a whole, when several jobs' events fail: failures in a row, since when, until when.
    attempts      integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    next_at       timestamptz
);

-- A line is one job's events, or those of no job (''). One that is here was delivered up to its own position.
CREATE TABLE webhook_lines (
    webhook       text NOT NULL REFERENCES webhook_cursors ON DELETE CASCADE,
    line          text NOT NULL,
    position      bigint NOT NULL,
    attempts      integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    next_at       timestamptz,
    PRIMARY KEY (webhook, line)
);

-- The last attempts of each webhook, for people to look at.
CREATE TABLE webhook_attempts (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook   text NOT NULL REFERENCES webhook_cursors ON DELETE CASCADE,
    position  bigint NOT NULL,
    line      text NOT NULL,
    attempt   integer NOT NULL,
    at        timestamptz NOT NULL,
    took_ms   integer NOT NULL,
    status    integer,
    -- Why it failed; null when it was delivered.
    error     text,
    next_at   timestamptz
);
CREATE INDEX webhook_attempts_of ON webhook_attempts (webhook, id);

CREATE INDEX events_of_no_job ON events (project, position) WHERE job IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_cursors, webhook_lines, webhook_attempts TO jobyard_service;
