-- name: one
-- A job, also a deleted one, and the time.
SELECT row, clock_timestamp() AS now FROM fold_status WHERE key = $1

-- name: newest
-- $1 project, $2 states, $3 selector's terms, $4 name, $5 user, $6 updated after, $7 before: as `jobs_wanted`;
-- $8 most rows, $9 rows to pass over, $10 the position after which a cursor goes on, or null. The last: no more than
-- so many bytes of rows, and one row at least.
SELECT row, position, key, now
FROM (
    SELECT found.*, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(row) AS bytes_before
    FROM (
        SELECT row::text AS row, (row ->> 'createdPosition')::bigint AS position, '' AS key,
               clock_timestamp() AS now
        FROM jobs_wanted($1, $2, $3, $4, $5, $6, $7)
        WHERE $10::bigint IS NULL OR (row ->> 'createdPosition')::bigint < $10
        ORDER BY (row ->> 'createdPosition')::bigint DESC
        LIMIT $8 OFFSET $9
    ) AS found
) AS sized
WHERE bytes_before < $11

-- name: newest_of_all
-- As `newest`, of all jobs of a project: it has one plan, which is kept. $2 is the position after which a page goes
-- on; beyond all of them for the first one.
SELECT row, position, key, now
FROM (
    SELECT found.*, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(row) AS bytes_before
    FROM (
        SELECT row::text AS row, (row ->> 'createdPosition')::bigint AS position, '' AS key,
               clock_timestamp() AS now
        FROM fold_status
        WHERE row ->> 'project' = $1
          AND NOT coalesce((row ->> 'deleted')::boolean, false)
          AND (row ->> 'createdPosition')::bigint < $2
        ORDER BY (row ->> 'createdPosition')::bigint DESC
        LIMIT $3
    ) AS found
) AS sized
WHERE bytes_before < $4

-- name: oldest
SELECT row, position, key, now
FROM (
    SELECT found.*, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(row) AS bytes_before
    FROM (
        SELECT row::text AS row, (row ->> 'createdPosition')::bigint AS position, '' AS key,
               clock_timestamp() AS now
        FROM jobs_wanted($1, $2, $3, $4, $5, $6, $7)
        WHERE $10::bigint IS NULL OR (row ->> 'createdPosition')::bigint > $10
        ORDER BY (row ->> 'createdPosition')::bigint ASC
        LIMIT $8 OFFSET $9
    ) AS found
) AS sized
WHERE bytes_before < $11

-- name: ascending
-- As `newest`; $11 names the order as `job_key` knows it, $12 is the key after which a cursor goes on.
SELECT row, position, key, now
FROM (
    SELECT found.*, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(row) AS bytes_before
    FROM (
        SELECT row::text AS row, (row ->> 'createdPosition')::bigint AS position, job_key(row, $11) AS key,
               clock_timestamp() AS now
        FROM jobs_wanted($1, $2, $3, $4, $5, $6, $7)
        WHERE $10::bigint IS NULL
           OR (job_key(row, $11) COLLATE "C", (row ->> 'createdPosition')::bigint) > ($12::text COLLATE "C", $10)
        ORDER BY job_key(row, $11) COLLATE "C" ASC, (row ->> 'createdPosition')::bigint ASC
        LIMIT $8 OFFSET $9
    ) AS found
) AS sized
WHERE bytes_before < $13

-- name: descending
SELECT row, position, key, now
FROM (
    SELECT found.*, sum(octet_length(row)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(row) AS bytes_before
    FROM (
        SELECT row::text AS row, (row ->> 'createdPosition')::bigint AS position, job_key(row, $11) AS key,
               clock_timestamp() AS now
        FROM jobs_wanted($1, $2, $3, $4, $5, $6, $7)
        WHERE $10::bigint IS NULL
           OR (job_key(row, $11) COLLATE "C", (row ->> 'createdPosition')::bigint) < ($12::text COLLATE "C", $10)
        ORDER BY job_key(row, $11) COLLATE "C" DESC, (row ->> 'createdPosition')::bigint DESC
        LIMIT $8 OFFSET $9
    ) AS found
) AS sized
WHERE bytes_before < $13

-- name: count
SELECT count(*) AS total, clock_timestamp() AS now FROM jobs_wanted($1, $2, $3, $4, $5, $6, $7)

-- name: now
SELECT clock_timestamp()

-- name: runs_over
-- Of these jobs, the run each is in and whether it has ended; a job that is gone is left out.
SELECT key, (row ->> 'run')::int AS run,
       row ->> 'state' = ANY ($2::text[]) OR coalesce((row ->> 'deleted')::boolean, false) AS ended
FROM fold_status
WHERE key = ANY ($1::text[])

-- name: tokens_after
-- The tokens that changed after a position.
SELECT row FROM fold_tokens WHERE position > $1

-- name: token
SELECT row FROM fold_tokens WHERE key = $1

-- name: runs_of_project
SELECT row FROM fold_billing WHERE row ->> 'project' = $1
ORDER BY row #>> '{marks,initializingAt}' NULLS LAST, row ->> 'job', (row ->> 'run')::int

-- name: selected_jobs
-- Those of the jobs, deleted or not, whose labels meet the terms.
SELECT key FROM fold_status WHERE key = ANY ($1::text[]) AND selected(row #> '{spec,labels}', $2::jsonb)

-- name: spend
-- What a project has spent, null when it has no row yet, and the time.
SELECT (SELECT row FROM fold_spend WHERE key = $1) AS row, clock_timestamp() AS now

-- name: earlier_runs
-- $1 project, $2 image, $3 command as JSON, $4 flavor, $5 units, $6 selector's terms or null, $7 among how many
-- of the newest jobs, $8 most rows.
WITH newest AS MATERIALIZED (
    SELECT key, (row ->> 'createdPosition')::bigint AS position, row -> 'spec' AS spec
    FROM fold_status
    WHERE row ->> 'project' = $1 AND NOT coalesce((row ->> 'deleted')::boolean, false)
    ORDER BY (row ->> 'createdPosition')::bigint DESC
    LIMIT $7
)
SELECT bill.row
FROM newest
JOIN fold_billing bill ON bill.row ->> 'project' = $1 AND bill.row ->> 'job' = newest.key
WHERE newest.spec ->> 'image' = $2
  AND newest.spec -> 'command' = $3::jsonb
  AND newest.spec #>> '{resources,flavor}' = $4
  AND (newest.spec #>> '{resources,units}')::int = $5
  AND ($6::text IS NULL OR selected(newest.spec -> 'labels', $6::jsonb))
ORDER BY newest.position DESC, (bill.row ->> 'run')::int DESC
LIMIT $8

-- name: charged_runs
-- $1 project, $2 selector's terms or null: the bills of runs that were placed, in that order.
SELECT bill.row, job.row #>> '{spec,name}' AS name, job.row #>> '{spec,image}' AS image,
       job.row #>> '{spec,labels}' AS labels
FROM fold_billing bill
JOIN fold_status job ON job.key = bill.row ->> 'job'
WHERE bill.row ->> 'project' = $1
  AND bill.row #>> '{marks,initializingAt}' IS NOT NULL
  AND ($2::text IS NULL OR selected(job.row #> '{spec,labels}', $2::jsonb))
ORDER BY bill.row #>> '{marks,initializingAt}', bill.key

-- name: credits_of_project
SELECT row FROM fold_credits WHERE row ->> 'project' = $1 ORDER BY position

-- name: name_of_project
SELECT row ->> 'name' FROM fold_projects WHERE key = $1

-- name: nodes
SELECT row FROM fold_nodes ORDER BY key
