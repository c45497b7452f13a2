-- name: month
-- Bills that may stand on a month's statement as of a position, or that are not over; page after page by key.
-- $1 project, $2 and $3 the month's beginning and end, $4 the position, $5 a selector's terms or null,
-- $6 the key after which to go on, $7 most rows.
SELECT bill.key, bill.row
FROM fold_billing AS bill
WHERE bill.row ->> 'project' = $1
  AND bill.key > $6
  AND (bill.row -> 'positions' ->> 0)::bigint <= $4
  AND ((bill.row -> 'positions' ->> -1)::bigint > $4
       OR coalesce(bill.row #>> '{marks,finalizingAt}', bill.row #>> '{marks,endedAt}') IS NULL
       OR (bill.row #>> '{marks,leftRunningAt}')::timestamptz BETWEEN $2 AND $3
       OR (bill.row #>> '{marks,finalizingAt}')::timestamptz BETWEEN $2 AND $3
       OR (bill.row #>> '{marks,endedAt}')::timestamptz BETWEEN $2 AND $3
       OR EXISTS (SELECT FROM jsonb_array_elements(bill.row -> 'ordered') AS each (given)
                  WHERE (given ->> 'at')::timestamptz BETWEEN $2 AND $3))
  AND ($5::jsonb IS NULL
       OR EXISTS (SELECT FROM fold_status AS job
                  WHERE job.key = bill.row ->> 'job' AND selected(job.row #> '{spec,labels}', $5::jsonb)))
ORDER BY bill.key LIMIT $7

-- name: bills
-- $1 keys, $2 a selector's terms or null.
SELECT bill.key, bill.row
FROM fold_billing AS bill
WHERE bill.key = ANY ($1::text[])
  AND ($2::jsonb IS NULL
       OR EXISTS (SELECT FROM fold_status AS job
                  WHERE job.key = bill.row ->> 'job' AND selected(job.row #> '{spec,labels}', $2::jsonb)))

-- name: credits
-- Those of a project that are no run's, as of a position.
SELECT row FROM fold_credits WHERE row ->> 'project' = $1 AND key::bigint <= $2 ORDER BY key::bigint

-- name: project_events
-- What a project's bills are made of. $1 project, $2 after, $3 up to, $4 types, $5 most.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE project = $1 AND position > $2 AND position <= $3 AND type = ANY ($4::text[])
ORDER BY position LIMIT $5

-- name: run_events
-- What one run's bill is made of. $1 job, $2 run, $3 up to, $4 types.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE job = $1 AND run = $2 AND position <= $3 AND type = ANY ($4::text[])
ORDER BY position

-- name: cited
-- Which of these positions are events of a project, or of none.
SELECT position FROM events WHERE position = ANY ($1::bigint[]) AND (project = $2 OR project IS NULL)
