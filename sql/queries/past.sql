-- name: there_at
-- The jobs that were there at a position and may have been live: $2 are the states of those that still are.
SELECT key::uuid AS job FROM fold_status
WHERE (position > $1 OR row ->> 'state' = ANY ($2::text[]))
  AND (row ->> 'createdPosition')::bigint <= $1

-- name: moved
-- The jobs that events of some types tell of in a part of the ledger, and how many events: at most $4 are read.
SELECT job, count(*) AS moves FROM (
    SELECT job FROM events
    WHERE position > $1 AND position <= $2 AND type = ANY ($3::text[])
    ORDER BY position DESC LIMIT $4
) moves GROUP BY job

-- name: since_moves
-- The position before the last $4 events of some types in a part of the ledger.
SELECT position FROM events
WHERE position > $1 AND position <= $2 AND type = ANY ($3::text[])
ORDER BY position DESC OFFSET $4 LIMIT 1

-- name: of_jobs
-- $3 up to, $4 after; $5 of which runs, NULL: of all, and of none.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE job = ANY ($1::uuid[]) AND type = ANY ($2::text[]) AND position <= $3 AND position > $4
  AND ($5::int[] IS NULL OR run = ANY ($5))
ORDER BY position

-- name: supervisors
-- What supervisors said as they began and of their nodes: from the last one at a position or before on.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE project IS NULL AND type IN ('SupervisorStarted', 'AdmissionSet') AND position >= coalesce((
    SELECT max(position) FROM events
    WHERE project IS NULL AND type = 'SupervisorStarted' AND position <= $1
), 0)
ORDER BY position

-- name: refused
-- What a project was refused in a part of the ledger.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE project = $1 AND type = 'SubmissionRefused' AND position > $2 AND position < $3
ORDER BY position DESC LIMIT $4

-- name: submitted
-- The latest jobs of a project, of one image, that were taken in a part of the ledger.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE project = $1 AND type = 'JobSubmitted' AND position > $2 AND position < $3
  AND data #>> '{spec,image}' = $4
ORDER BY position DESC LIMIT $5

-- name: limits
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id, hash,
       client_address
FROM events
WHERE type IN ('ProjectCreated', 'QuotaSet') AND position <= $1
ORDER BY position

-- name: prices
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id, hash,
       client_address
FROM events
WHERE project IS NULL AND type = 'PricesSet' AND position <= $1
ORDER BY position

-- name: all_refused
-- $1 after, $2 up to, $3 at most.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id, hash,
       client_address
FROM events
WHERE type = 'SubmissionRefused' AND position > $1 AND position <= $2
ORDER BY position LIMIT $3
