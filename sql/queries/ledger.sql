-- name: head
SELECT ledger_id, epoch, position, hash, recorded_at FROM ledger_head

-- name: lock_head
SELECT ledger_id, epoch, position, rebuilds, hash, greatest(clock_timestamp(), recorded_at) AS now
FROM ledger_head FOR UPDATE

-- name: known_commands
SELECT id, digest, first_position, last_position FROM commands WHERE id = ANY ($1::uuid[])

-- name: epochs
SELECT engine, epoch FROM leases WHERE engine = ANY ($1::text[])

-- name: stores_in_use
-- Which data stores jobs pull from or push to that have not ended, or whose push was ordered again.
-- $1 projects, $2 the states of those that have not.
SELECT DISTINCT row ->> 'project' AS project, place ->> 'alias' AS alias
FROM fold_status
CROSS JOIN LATERAL jsonb_array_elements(coalesce(row #> '{spec,volumes}', '[]')) AS volume
CROSS JOIN LATERAL (VALUES (volume -> 'source'), (volume -> 'target')) AS named (place)
WHERE (row ->> 'state' = ANY ($2::text[]) OR row ->> 'pushOrdered' IS NOT NULL)
  AND row ->> 'project' = ANY ($1::text[])
  AND place ->> 'alias' IS NOT NULL

-- name: append
WITH added AS (
    INSERT INTO events (position, project, job, run, type, data, occurred_at, recorded_at,
                        actor, command_id, request_id, hash)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::uuid[], $4::int[], $5::text[], $6::json[],
                         $7::timestamptz[], $8::timestamptz[], $9::text[], $10::uuid[], $11::text[],
                         $12::bytea[])
), done AS (
    INSERT INTO commands (id, digest, first_position, last_position)
    SELECT * FROM unnest($13::uuid[], $14::bytea[], $15::bigint[], $16::bigint[])
), folded AS (
    INSERT INTO folds (fold, key, position, row)
    SELECT * FROM unnest($17::text[], $18::text[], $19::bigint[], $20::jsonb[])
    ON CONFLICT (fold, key) DO UPDATE SET position = excluded.position, row = excluded.row
), moved AS (
    UPDATE ledger_head SET position = $21::bigint, hash = $22::bytea, recorded_at = $23::timestamptz
)
SELECT pg_notify('jobyard', ($21::bigint)::text)

-- name: read_after
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id, hash
FROM events
WHERE position > $1 AND position <= $2
ORDER BY position LIMIT $3

-- name: read_job
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id, hash
FROM events
WHERE job = $4 AND position > $1 AND position <= $2
ORDER BY position LIMIT $3

-- name: read_project
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id, hash
FROM events
WHERE project = $4 AND position > $1 AND position <= $2
ORDER BY position LIMIT $3
