-- name: head
SELECT ledger_id, epoch, position, hash, recorded_at FROM ledger_head

-- name: bound
-- Of this connection, which will hold the head's lock: the server ends it when it is idle in a transaction for
-- $1 ms, a statement that takes $2 ms, and what leads to nobody. So no client that is gone, or was stopped, or is
-- behind a cut link keeps the lock, or stands in line for it.
-- All that it looks for has an index; without these a plan that was made while tables were small, or had never been
-- analysed, would go on to read them whole with each commit.
SELECT set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('idle_in_transaction_session_timeout', $1, false),
       set_config('statement_timeout', $2, false),
       set_config('tcp_keepalives_idle', '5', false),
       set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false)

-- name: ping
SELECT 1

-- name: lock_head
-- The time is taken once the lock is ours: a plain SELECT would take it before it waits.
WITH head AS MATERIALIZED (
    SELECT ledger_id, epoch, position, rebuilds, hash, recorded_at FROM ledger_head FOR UPDATE
)
SELECT ledger_id, epoch, position, rebuilds, hash, greatest(clock_timestamp(), recorded_at) AS now FROM head

-- name: take_head
-- $1 and $2 the folds and keys of rows, $3 ids of commands.
SELECT at, rebuilds, hash, now, rows, known FROM take_head($1::text[], $2::text[], $3::uuid[])

-- name: command
-- One that was carried out, if it was. $1 its id.
SELECT id, digest, first_position, last_position FROM commands WHERE id = $1

-- name: keep
-- Commands that were carried out and changed nothing: their ranges are empty, and begin after the head. $1 them.
INSERT INTO commands (id, digest, first_position, last_position)
SELECT id, digest, first_position, last_position FROM unnest($1::new_command[])

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

-- name: live_jobs_of
-- The jobs that have not ended, or whose push was ordered again. $1 projects, $2 the states of those that have not.
SELECT row ->> 'project' AS project, key FROM fold_status
WHERE (row ->> 'state' = ANY ($2::text[]) OR row ->> 'pushOrdered' IS NOT NULL)
  AND row ->> 'project' = ANY ($1::text[])

-- name: append
-- $1 events, $2 their commands, $3 rows that were not there, $4 rows that may be; where the head is then: $5, $6, $7.
-- What is known to be new is inserted as such: to look for a conflict first costs as much again.
WITH added AS (
    INSERT INTO events (position, project, job, run, type, data, occurred_at, recorded_at,
                        actor, command_id, request_id, hash, client_address)
    SELECT position, project, job, run, type, data, occurred_at, $7::timestamptz,
           actor, command_id, request_id, hash, client_address
    FROM unnest($1::new_event[])
), done AS (
    INSERT INTO commands (id, digest, first_position, last_position)
    SELECT id, digest, first_position, last_position FROM unnest($2::new_command[])
), made AS (
    INSERT INTO folds (fold, key, position, row) SELECT fold, key, position, row FROM unnest($3::new_row[])
), changed AS (
    INSERT INTO folds (fold, key, position, row) SELECT fold, key, position, row FROM unnest($4::new_row[])
    ON CONFLICT (fold, key) DO UPDATE SET position = excluded.position, row = excluded.row
), moved AS (
    UPDATE ledger_head SET position = $5::bigint, hash = $6::bytea, recorded_at = $7::timestamptz
)
SELECT pg_notify('jobyard', ($5::bigint)::text)

-- name: read_after
-- Nothing is read from beyond the head, whoever put it there: it is no history.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE position > $1 AND position <= least($2, (SELECT position FROM ledger_head))
ORDER BY position LIMIT $3

-- name: strays
-- The events that lie where none can be: the first before the beginning, and the first beyond the head.
SELECT (SELECT min(position) FROM events WHERE position < 1) AS before,
       (SELECT min(position) FROM events WHERE position > (SELECT position FROM ledger_head)) AS beyond

-- name: read_others
-- As `read_after`, but for the types $4.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE position > $1 AND position <= $2 AND type <> ALL ($4::text[])
ORDER BY position LIMIT $3

-- name: read_portion
-- No more than $3 bytes of bodies, as they are read (stored they may be compressed), and one event at least.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM (
    SELECT found.*, sum(octet_length(data::text)) OVER (ORDER BY position) - octet_length(data::text) AS bytes_before
    FROM (
        SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id,
               request_id, hash, client_address
        FROM events
        WHERE position > $1 AND position <= (SELECT position FROM ledger_head)
        ORDER BY position LIMIT $2
    ) AS found
) AS sized
WHERE bytes_before < $3 ORDER BY position

-- name: read_job
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE job = $4 AND position > $1 AND position <= least($2, (SELECT position FROM ledger_head))
ORDER BY position LIMIT $3

-- name: read_project
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address
FROM events
WHERE project = $4 AND position > $1 AND position <= least($2, (SELECT position FROM ledger_head))
ORDER BY position LIMIT $3

-- name: head_position
SELECT position FROM ledger_head

-- name: still
-- Where the ledger ends, and whether it has the event that it had: at position $1, with the hash $2. After a failover
-- that lost events it has not, though others may have brought it as far since.
SELECT position, hash,
       $1 = 0::bigint OR EXISTS (
           SELECT FROM events
           WHERE events.position = $1 AND events.hash = $2 AND events.position <= head.position
       ) AS holds
FROM ledger_head AS head

-- name: lost
-- Whether it has one of several events no more that it had: at positions $1, with the hashes $2. As `still`.
SELECT EXISTS (
    SELECT FROM unnest($1::bigint[], $2::bytea[]) AS had (position, hash)
    WHERE had.position > 0 AND NOT EXISTS (
        SELECT FROM events
        WHERE events.position = had.position AND events.hash = had.hash AND events.position <= head.position
    )
)
FROM ledger_head AS head

-- name: wanted_of_project
-- $4 project, $5 types or null, $6 states that a job came into or null. Of no more than $7 bytes of data
-- before the last, and one at least; `looked` tells how many there would have been. Counted as
-- they are stored first, which is known without reading them, and then as they are, since they may be compressed.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address, looked
FROM (
    SELECT sized.*,
           sum(octet_length(data::text)) OVER (ORDER BY position) - octet_length(data::text) AS bytes_before
    FROM (
        SELECT found.*, count(*) OVER () AS looked,
               sum(pg_column_size(data)) OVER (ORDER BY position) - pg_column_size(data) AS stored_before
        FROM (
            SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id,
                   request_id, hash, client_address
            FROM events
            WHERE project = $4 AND position > $1 AND position <= $2
              AND ($5::text[] IS NULL OR type = ANY ($5))
              AND ($6::text[] IS NULL OR data ->> 'target' = ANY ($6))
            ORDER BY position LIMIT $3
        ) AS found
    ) AS sized
    WHERE stored_before < $7
) AS weighed
WHERE bytes_before < $7 ORDER BY position

-- name: wanted_of_jobs
-- As above, of jobs $8. Each job's part is read by its own index, and no more of it than can be wanted.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address, looked
FROM (
    SELECT sized.*,
           sum(octet_length(data::text)) OVER (ORDER BY position) - octet_length(data::text) AS bytes_before
    FROM (
        SELECT found.*, count(*) OVER () AS looked,
               sum(pg_column_size(data)) OVER (ORDER BY position) - pg_column_size(data) AS stored_before
        FROM (
            SELECT each.* FROM unnest($8::uuid[]) AS wanted (job) CROSS JOIN LATERAL (
                SELECT position, project, events.job, run, type, data, occurred_at, recorded_at, actor,
                       command_id, request_id, hash, client_address
                FROM events
                WHERE events.job = wanted.job AND position > $1 AND position <= $2 AND project = $4
                  AND ($5::text[] IS NULL OR type = ANY ($5))
                  AND ($6::text[] IS NULL OR data ->> 'target' = ANY ($6))
                ORDER BY position LIMIT $3
            ) AS each
            ORDER BY position LIMIT $3
        ) AS found
    ) AS sized
    WHERE stored_before < $7
) AS weighed
WHERE bytes_before < $7 ORDER BY position
