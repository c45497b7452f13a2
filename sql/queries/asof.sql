-- name: head
-- Where the ledger ends, and the database's time.
SELECT position, recorded_at, clock_timestamp() AS now FROM ledger_head

-- name: lock_out
-- Wait for the append that is under way: whoever appends after this transaction records a later time than now.
-- Both statements are sent as one, and so are one transaction, which ends on the server; as it writes nothing
-- but a lock, its end need not reach the disk.
SET LOCAL synchronous_commit = off;
SELECT FROM ledger_head FOR UPDATE

-- name: recorded_at
-- When the event at a position was recorded; before the first one, when that was; null in an empty ledger.
SELECT recorded_at FROM events WHERE position = greatest($1::bigint, 1)

-- name: hash_at
SELECT hash FROM events WHERE position = $1

-- name: position_at
-- The last event that was recorded at $1 or before; 0 when all came later. Positions have no holes and times do
-- not go back, so it is found by halving: some twenty looks into the primary key.
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, position FROM ledger_head
    UNION ALL
    SELECT CASE WHEN events.recorded_at <= $1::timestamptz THEN step.middle ELSE step.low END,
           CASE WHEN events.recorded_at <= $1::timestamptz THEN step.high ELSE step.middle - 1 END
    FROM (SELECT low, high, (low + high + 1) / 2 AS middle FROM search WHERE low < high) step
    JOIN events ON events.position = step.middle
)
SELECT low FROM search WHERE low = high

-- name: row
-- A row as it is now, and the position of the event that last touched it.
SELECT position, row FROM folds WHERE fold = $1 AND key = $2

-- name: events_of_jobs
-- All that happened to these jobs up to a position.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       client_address
FROM events
WHERE job = ANY ($1::uuid[]) AND position <= $2
ORDER BY job, position

-- name: events_of_project
-- What happened in a project up to a position, of these types.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       client_address
FROM events
WHERE project = $1 AND position <= $2 AND type = ANY ($3::text[])
ORDER BY position

-- name: touched_jobs
-- The jobs of a project that were there at a position, and that have changed since.
SELECT key FROM fold_status
WHERE position > $2 AND row ->> 'project' = $1 AND (row ->> 'createdPosition')::bigint <= $2

-- name: touched_jobs_of
-- The same of these jobs.
SELECT key FROM fold_status
WHERE key = ANY ($1::text[]) AND position > $2 AND (row ->> 'createdPosition')::bigint <= $2

-- name: touched_runs
-- The runs of a project that had begun at a position, and that have changed since.
SELECT key FROM fold_billing
WHERE row ->> 'project' = $1 AND position > $2 AND (row #>> '{positions,0}')::bigint <= $2

-- name: touched_runs_of_job
SELECT key FROM fold_billing
WHERE row ->> 'job' = $1 AND position > $2 AND (row #>> '{positions,0}')::bigint <= $2

-- name: count
-- $1 to $7 as `jobs_wanted`; $8 a position, $9 the rows of `touched_jobs` as they were at it.
SELECT count(*) AS total FROM jobs_as_of($8, $9, $1, $2, $3, $4, $5, $6, $7) AS job (row)

-- name: ascending
-- As the statement of this name in jobs.sql, which see; $13 a position, $14 the rows of `touched_jobs` at it.
-- Every job has the same `job_key` for createdAt, so this gives the order of creation, too.
SELECT row, position, key
FROM (
    SELECT found.*, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(row) AS bytes_before
    FROM (
        SELECT row::text AS row, (row ->> 'createdPosition')::bigint AS position, job_key(row, $11) AS key
        FROM jobs_as_of($13, $14, $1, $2, $3, $4, $5, $6, $7) AS job (row)
        WHERE $10::bigint IS NULL
           OR (job_key(row, $11) COLLATE "C", (row ->> 'createdPosition')::bigint) > ($12::text COLLATE "C", $10)
        ORDER BY job_key(row, $11) COLLATE "C" ASC, (row ->> 'createdPosition')::bigint ASC
        LIMIT $8 OFFSET $9
    ) AS found
) AS sized
WHERE bytes_before < $15

-- name: descending
SELECT row, position, key
FROM (
    SELECT found.*, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(row) AS bytes_before
    FROM (
        SELECT row::text AS row, (row ->> 'createdPosition')::bigint AS position, job_key(row, $11) AS key
        FROM jobs_as_of($13, $14, $1, $2, $3, $4, $5, $6, $7) AS job (row)
        WHERE $10::bigint IS NULL
           OR (job_key(row, $11) COLLATE "C", (row ->> 'createdPosition')::bigint) < ($12::text COLLATE "C", $10)
        ORDER BY job_key(row, $11) COLLATE "C" DESC, (row ->> 'createdPosition')::bigint DESC
        LIMIT $8 OFFSET $9
    ) AS found
) AS sized
WHERE bytes_before < $15

-- name: runs_of_project
-- In the order of the statement of this name in jobs.sql. $1 project, $2 a position, $3 the rows of
-- `touched_runs` as they were at it.
SELECT row FROM (
    SELECT row FROM fold_billing WHERE row ->> 'project' = $1 AND position <= $2
    UNION ALL
    SELECT again FROM unnest($3::jsonb[]) AS again
) AS run
ORDER BY row #>> '{marks,initializingAt}' NULLS LAST, row ->> 'job', (row ->> 'run')::int

-- name: runs_of_job
-- $1 a job; the others as for `runs_of_project`.
SELECT row FROM (
    SELECT row FROM fold_billing WHERE row ->> 'job' = $1 AND position <= $2
    UNION ALL
    SELECT again FROM unnest($3::jsonb[]) AS again
) AS run
ORDER BY (row ->> 'run')::int

-- name: selected_jobs
-- Those of the jobs, deleted or not, whose labels meet the terms at position $2; $4 as `touched_jobs_of`.
SELECT row ->> 'id' AS key FROM (
    SELECT row FROM fold_status WHERE key = ANY ($1::text[]) AND position <= $2
    UNION ALL
    SELECT again FROM unnest($4::jsonb[]) AS again
) AS job
WHERE selected(row #> '{spec,labels}', $3::jsonb)

-- name: envelopes_of_job
-- Who did what to a job after a position and up to another, and how much of that there is in all.
SELECT position, type, run, occurred_at, recorded_at, actor, request_id, count(*) OVER () AS total
FROM events
WHERE job = $1 AND position > $2 AND position <= $3
ORDER BY position LIMIT $4

-- name: described_jobs
-- Of those of the jobs, deleted or not, whose labels meet the terms (null: all) what they were at position $2;
-- $4 as `touched_jobs_of`.
SELECT row ->> 'id' AS key, row #>> '{spec,name}' AS name, row #>> '{spec,image}' AS image,
       row #>> '{spec,labels}' AS labels
FROM (
    SELECT row FROM fold_status WHERE key = ANY ($1::text[]) AND position <= $2
    UNION ALL
    SELECT again FROM unnest($4::jsonb[]) AS again
) AS job
WHERE $3::jsonb IS NULL OR selected(row #> '{spec,labels}', $3::jsonb)
