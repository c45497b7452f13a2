-- name: jobs_now
-- Those of the jobs that there are, also deleted ones, the time, and where the ledger was, all of one moment.
SELECT key, row, clock_timestamp() AS now, ledger_id, epoch, rebuilds, head.position, hash
FROM fold_status, ledger_head AS head
WHERE key = ANY ($1::text[])

-- name: moved
-- Where the ledger is, the time, and the jobs that something has happened to after position $1, each with the last
-- position of it; null when that is more than $2 events ago, or in the future, or not of this ledger: the event
-- there has not the hash $3.
SELECT ledger_id, epoch, rebuilds, position, hash, clock_timestamp() AS now,
       CASE WHEN position = $1 AND hash = $3 THEN '{}'::json
            WHEN position > $1 AND position <= $1 + $2
                 AND EXISTS (SELECT FROM events WHERE events.position = $1 AND events.hash = $3) THEN (
                SELECT coalesce(json_object_agg(job, last), '{}')
                FROM (
                    SELECT events.job, max(events.position) AS last FROM events
                    WHERE events.position > $1 AND events.position <= head.position AND events.job IS NOT NULL
                    GROUP BY events.job
                ) AS touched
            )
       END AS jobs
FROM ledger_head AS head
