-- name: take_duty
SELECT pg_try_advisory_lock(7106228742155618)

-- name: bound_silence
-- Of this connection: it is ended when it is idle for $1 ms. What is written is no money: the last moments
-- may be lost with a crash of the server, and are delivered again.
SELECT set_config('idle_session_timeout', $1, false),
       set_config('idle_in_transaction_session_timeout', $1, false),
       set_config('synchronous_commit', 'off', false)

-- name: ping
SELECT 1

-- name: all
SELECT row FROM fold_webhooks ORDER BY key

-- name: of_project
SELECT row FROM fold_webhooks WHERE key = $1

-- name: grown
-- Which projects have events after $1, up to where, and whether any of them is of the types $2.
SELECT project, max(position) AS position, bool_or(type = ANY ($2::text[])) AS changed
FROM events WHERE position > $1 GROUP BY project

-- name: of_no_job
-- $1 project, $2 after, $3 up to, $4 most.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE job IS NULL AND project = $1 AND position > $2 AND position <= $3
ORDER BY position LIMIT $4

-- name: begin
INSERT INTO webhook_cursors (webhook, start, touched, position) VALUES ($1, $2, $3, $4)
ON CONFLICT (webhook) DO NOTHING

-- name: cursor
SELECT start, touched, position, attempts, failing_since, next_at FROM webhook_cursors WHERE webhook = $1

-- name: lines
SELECT line, position, attempts, failing_since, next_at FROM webhook_lines WHERE webhook = $1

-- name: move
-- $2 start, $3 touched, $4 position, $5 attempts, $6 failing since, $7 next at.
UPDATE webhook_cursors
SET start = $2, touched = $3, position = $4, attempts = $5, failing_since = $6, next_at = $7
WHERE webhook = $1

-- name: put_line
INSERT INTO webhook_lines (webhook, line, position, attempts, failing_since, next_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (webhook, line) DO UPDATE
SET position = excluded.position, attempts = excluded.attempts,
    failing_since = excluded.failing_since, next_at = excluded.next_at

-- name: put_lines
INSERT INTO webhook_lines (webhook, line, position, attempts, failing_since, next_at)
SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::int[], $5::timestamptz[], $6::timestamptz[])
ON CONFLICT (webhook, line) DO UPDATE
SET position = excluded.position, attempts = excluded.attempts,
    failing_since = excluded.failing_since, next_at = excluded.next_at

-- name: drop_lines
-- All but those named.
DELETE FROM webhook_lines WHERE webhook = $1 AND line <> ALL ($2::text[])

-- name: attempted
INSERT INTO webhook_attempts (webhook, position, line, attempt, at, took_ms, status, error, next_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: forget_attempts
-- All but the last $2.
DELETE FROM webhook_attempts WHERE webhook = $1 AND id <= (
    SELECT id FROM webhook_attempts WHERE webhook = $1 ORDER BY id DESC OFFSET $2 LIMIT 1
)

-- name: forget
-- Those that there are no more.
DELETE FROM webhook_cursors WHERE webhook <> ALL ($1::text[])

-- name: attempts
-- Newest first. $2 most rows, $3 rows to pass over.
SELECT position, line, attempt, at, took_ms, status, error, next_at
FROM webhook_attempts WHERE webhook = $1 ORDER BY id DESC LIMIT $2 OFFSET $3

-- name: count_attempts
SELECT count(*) FROM webhook_attempts WHERE webhook = $1

-- name: standing
-- Of the webhooks $1: how far each has come, and what fails.
SELECT webhook, start, touched, position, attempts, failing_since, next_at,
       (SELECT count(*) FROM webhook_lines WHERE webhook = cursors.webhook AND attempts > 0) AS failing_lines,
       (SELECT min(position) FROM webhook_lines WHERE webhook = cursors.webhook
        AND position < cursors.position) AS held_after,
       (SELECT min(failing_since) FROM webhook_lines WHERE webhook = cursors.webhook) AS line_failing_since,
       (SELECT min(next_at) FROM webhook_lines WHERE webhook = cursors.webhook AND attempts > 0) AS line_next_at
FROM webhook_cursors AS cursors WHERE webhook = ANY ($1::text[])

-- name: counts
-- Of all projects: the webhooks that there are, those paused, and those that fail and go on trying.
SELECT count(*) AS webhooks, count(*) FILTER (WHERE paused) AS paused,
       count(*) FILTER (WHERE NOT paused AND failing) AS failing
FROM fold_webhooks
CROSS JOIN LATERAL jsonb_each(row -> 'hooks') AS hook (id, hook)
CROSS JOIN LATERAL (
    SELECT hook ->> 'paused' IS NOT NULL AS paused,
           EXISTS (SELECT FROM webhook_lines WHERE webhook = hook.id AND attempts > 0) AS failing
) AS found
