-- name: one
-- A job, also a deleted one, and the time.
SELECT row, clock_timestamp() AS now FROM fold_status WHERE key = $1

-- name: newest
-- $1 project, $2 states or null, $3 labels or null, $4 name or null, $5 most rows, $6 rows to pass over.
SELECT row FROM fold_status
WHERE row ->> 'project' = $1
  AND NOT coalesce((row ->> 'deleted')::boolean, false)
  AND ($2::text[] IS NULL OR row ->> 'state' = ANY ($2::text[]))
  AND ($3::jsonb IS NULL OR row -> 'spec' -> 'labels' @> $3::jsonb)
  AND ($4::text IS NULL OR row -> 'spec' ->> 'name' = $4::text)
ORDER BY (row ->> 'createdPosition')::bigint DESC
LIMIT $5 OFFSET $6

-- name: ascending
-- As `newest`; $7 names the order: one of the keys below, or createdAt.
SELECT row FROM fold_status
WHERE row ->> 'project' = $1
  AND NOT coalesce((row ->> 'deleted')::boolean, false)
  AND ($2::text[] IS NULL OR row ->> 'state' = ANY ($2::text[]))
  AND ($3::jsonb IS NULL OR row -> 'spec' -> 'labels' @> $3::jsonb)
  AND ($4::text IS NULL OR row -> 'spec' ->> 'name' = $4::text)
ORDER BY
    CASE $7::text
        WHEN 'status.state' THEN row ->> 'state'
        WHEN 'spec.name' THEN row -> 'spec' ->> 'name'
        WHEN 'user' THEN row ->> 'user'
    END COLLATE "C" ASC,
    CASE $7::text
        WHEN 'updatedAt' THEN (row ->> 'position')::bigint
        WHEN 'status.queuedAt' THEN (row ->> 'queuedPosition')::bigint
        ELSE (row ->> 'createdPosition')::bigint
    END ASC
LIMIT $5 OFFSET $6

-- name: descending
SELECT row FROM fold_status
WHERE row ->> 'project' = $1
  AND NOT coalesce((row ->> 'deleted')::boolean, false)
  AND ($2::text[] IS NULL OR row ->> 'state' = ANY ($2::text[]))
  AND ($3::jsonb IS NULL OR row -> 'spec' -> 'labels' @> $3::jsonb)
  AND ($4::text IS NULL OR row -> 'spec' ->> 'name' = $4::text)
ORDER BY
    CASE $7::text
        WHEN 'status.state' THEN row ->> 'state'
        WHEN 'spec.name' THEN row -> 'spec' ->> 'name'
        WHEN 'user' THEN row ->> 'user'
    END COLLATE "C" DESC,
    CASE $7::text
        WHEN 'updatedAt' THEN (row ->> 'position')::bigint
        WHEN 'status.queuedAt' THEN (row ->> 'queuedPosition')::bigint
        ELSE (row ->> 'createdPosition')::bigint
    END DESC
LIMIT $5 OFFSET $6

-- name: count
SELECT count(*) AS total, clock_timestamp() AS now FROM fold_status
WHERE row ->> 'project' = $1
  AND NOT coalesce((row ->> 'deleted')::boolean, false)
  AND ($2::text[] IS NULL OR row ->> 'state' = ANY ($2::text[]))
  AND ($3::jsonb IS NULL OR row -> 'spec' -> 'labels' @> $3::jsonb)
  AND ($4::text IS NULL OR row -> 'spec' ->> 'name' = $4::text)

-- name: runs_over
-- Of these jobs, the run each is in and whether it has ended; a job that is gone is left out.
SELECT key, (row ->> 'run')::int AS run,
       row ->> 'state' = ANY ($2::text[]) OR coalesce((row ->> 'deleted')::boolean, false) AS ended
FROM fold_status
WHERE key = ANY ($1::text[])

-- name: tokens_after
-- The tokens that changed after a position.
SELECT row, position FROM fold_tokens WHERE position > $1

-- name: last_token_change
SELECT coalesce(max(position), 0) FROM fold_tokens

-- name: token
SELECT row FROM fold_tokens WHERE key = $1

-- name: runs_of_project
SELECT row FROM fold_billing WHERE row ->> 'project' = $1
ORDER BY row #>> '{marks,initializingAt}' NULLS LAST, row ->> 'job', (row ->> 'run')::int

-- name: labels_of_jobs
-- Those of the jobs that have all of the labels.
SELECT key FROM fold_status WHERE key = ANY ($1::text[]) AND row -> 'spec' -> 'labels' @> $2::jsonb
