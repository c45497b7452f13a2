-- name: job
SELECT row FROM fold_status WHERE key = $1

-- name: jobs_of
-- $1: ids.
SELECT row FROM fold_status WHERE key = ANY ($1::text[])

-- name: jobs
-- Newest first. $1 project, $2 states or null, $3 most rows, $4 rows to pass over.
SELECT row FROM fold_status
WHERE row ->> 'project' = $1
  AND NOT coalesce((row ->> 'deleted')::boolean, false)
  AND ($2::text[] IS NULL OR row ->> 'state' = ANY ($2::text[]))
ORDER BY (row ->> 'createdPosition')::bigint DESC
LIMIT $3 OFFSET $4

-- name: count_jobs
SELECT count(*) FROM fold_status
WHERE row ->> 'project' = $1
  AND NOT coalesce((row ->> 'deleted')::boolean, false)
  AND ($2::text[] IS NULL OR row ->> 'state' = ANY ($2::text[]))

-- name: live_jobs
-- What a supervisor looks after: every job that has not ended, and those with a push ordered.
SELECT row FROM fold_status
WHERE row ->> 'state' = ANY ($1::text[])
UNION ALL
SELECT row FROM fold_status
WHERE row ->> 'pushOrdered' IS NOT NULL AND NOT row ->> 'state' = ANY ($1::text[])

-- name: quota
SELECT row FROM fold_quota WHERE key = $1

-- name: project
SELECT row FROM fold_projects WHERE key = $1

-- name: projects
SELECT row FROM fold_projects ORDER BY key

-- name: token_by_hash
SELECT row FROM fold_tokens WHERE row ->> 'sha256' = $1

-- name: tokens
SELECT row FROM fold_tokens WHERE row ->> 'project' = $1 ORDER BY row ->> 'createdAt', key

-- name: runs_of_job
SELECT row FROM fold_billing WHERE row ->> 'job' = $1 ORDER BY (row ->> 'run')::int

-- name: prices
SELECT row FROM fold_prices WHERE key = 'book'

-- name: now
SELECT clock_timestamp()

-- name: clock
SELECT clock_timestamp() AS now,
       greatest(0, extract(epoch FROM recorded_at - clock_timestamp()))::float8 AS behind_s
FROM ledger_head
