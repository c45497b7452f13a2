-- name: hashes
-- $1 after, $2 up to, $3 at most.
SELECT position, hash FROM events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3

-- name: newest_checkpoint
SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1

-- name: add_checkpoint
INSERT INTO checkpoints (size, note) VALUES ($1, $2) ON CONFLICT (size) DO NOTHING

-- name: custom_plans
-- What is asked for differs from one to the next: each is planned for itself, so that the right index is used.
SET LOCAL plan_cache_mode = force_custom_plan

-- name: before
-- The last position that was recorded before a time ($2: or at it); 0 for none. Times never go backwards.
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, position FROM ledger_head
    UNION ALL
    SELECT CASE WHEN earlier THEN middle ELSE low END, CASE WHEN earlier THEN high ELSE middle - 1 END
    FROM search
    CROSS JOIN LATERAL (SELECT (low + high + 1) / 2 AS middle) AS halves
    CROSS JOIN LATERAL (
        SELECT recorded_at < $1::timestamptz OR ($2::boolean AND recorded_at = $1::timestamptz) AS earlier
        FROM events WHERE position = middle
    ) AS looked
    WHERE low < high
)
SELECT low FROM search WHERE low >= high LIMIT 1

-- name: log_up
-- Each of these may be null and then asks for nothing: $1 project ($2: instead, those without one), $3 job,
-- $4 actor, $5 types, $6 request, $7 command, $8 a label selector. $9 after, $10 up to, $11 at most.
-- Of no more than $12 bytes of data before the last, and one at least; `looked` tells how many there would
-- have been.
-- Labels are those that the job had right after the event, as for streams (labels.sql).
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
            WHERE position > $9 AND position <= $10
              AND ($1::text IS NULL OR project = $1)
              AND (NOT $2::boolean OR project IS NULL)
              AND ($3::uuid IS NULL OR job = $3)
              AND ($4::text IS NULL OR actor = $4)
              AND ($5::text[] IS NULL OR type = ANY ($5))
              AND ($6::text IS NULL OR request_id = $6)
              AND ($7::uuid IS NULL OR position BETWEEN (SELECT first_position FROM commands WHERE id = $7)
                                                    AND (SELECT last_position FROM commands WHERE id = $7))
              AND ($8::jsonb IS NULL OR (job IS NOT NULL AND selected(jsonb_strip_nulls(
                    coalesce((SELECT (data #> '{spec,labels}')::jsonb FROM events AS submitted
                              WHERE submitted.job = events.job AND submitted.type = 'JobSubmitted'
                              ORDER BY position LIMIT 1), '{}')
                    || coalesce((SELECT jsonb_object_agg(data ->> 'name', data ->> 'value' ORDER BY position)
                                 FROM events AS labelled
                                 WHERE labelled.job = events.job AND labelled.type = 'LabelSet'
                                   AND labelled.position <= events.position), '{}')), $8)))
            ORDER BY position LIMIT $11
        ) AS found
    ) AS sized
    WHERE stored_before < $12
) AS weighed
WHERE bytes_before < $12 ORDER BY position

-- name: log_down
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address, looked
FROM (
    SELECT sized.*,
           sum(octet_length(data::text)) OVER (ORDER BY position DESC) - octet_length(data::text) AS bytes_before
    FROM (
        SELECT found.*, count(*) OVER () AS looked,
               sum(pg_column_size(data)) OVER (ORDER BY position DESC) - pg_column_size(data) AS stored_before
        FROM (
            SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id,
                   request_id, hash, client_address
            FROM events
            WHERE position > $9 AND position <= $10
              AND ($1::text IS NULL OR project = $1)
              AND (NOT $2::boolean OR project IS NULL)
              AND ($3::uuid IS NULL OR job = $3)
              AND ($4::text IS NULL OR actor = $4)
              AND ($5::text[] IS NULL OR type = ANY ($5))
              AND ($6::text IS NULL OR request_id = $6)
              AND ($7::uuid IS NULL OR position BETWEEN (SELECT first_position FROM commands WHERE id = $7)
                                                    AND (SELECT last_position FROM commands WHERE id = $7))
              AND ($8::jsonb IS NULL OR (job IS NOT NULL AND selected(jsonb_strip_nulls(
                    coalesce((SELECT (data #> '{spec,labels}')::jsonb FROM events AS submitted
                              WHERE submitted.job = events.job AND submitted.type = 'JobSubmitted'
                              ORDER BY position LIMIT 1), '{}')
                    || coalesce((SELECT jsonb_object_agg(data ->> 'name', data ->> 'value' ORDER BY position)
                                 FROM events AS labelled
                                 WHERE labelled.job = events.job AND labelled.type = 'LabelSet'
                                   AND labelled.position <= events.position), '{}')), $8)))
            ORDER BY position DESC LIMIT $11
        ) AS found
    ) AS sized
    WHERE stored_before < $12
) AS weighed
WHERE bytes_before < $12 ORDER BY position DESC

-- name: of_jobs
-- What happened to some jobs ($1) up to a position ($2), to tell what caused what: of the types $3 only what
-- is at the positions $4. The bodies are those of the types $5 alone: a specification may be hundreds of KiB.
SELECT position, job, type, request_id, CASE WHEN type = ANY ($5::text[]) THEN data END AS data
FROM events
WHERE job = ANY ($1::uuid[]) AND position <= $2
  AND (type <> ALL ($3::text[]) OR position = ANY ($4::bigint[]))
ORDER BY position

-- name: hash_at
SELECT hash FROM events WHERE position = $1

-- name: token_names
SELECT key, row ->> 'name' AS name FROM fold_tokens WHERE key = ANY ($1::text[])

-- name: to_export
-- As `log_up`, with the hash of the event before each.
SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id, request_id,
       hash, client_address, previous
FROM (
    SELECT sized.*,
           sum(octet_length(data::text)) OVER (ORDER BY position) - octet_length(data::text) AS bytes_before
    FROM (
        SELECT found.*,
               sum(pg_column_size(data)) OVER (ORDER BY position) - pg_column_size(data) AS stored_before
        FROM (
            SELECT position, project, job, run, type, data, occurred_at, recorded_at, actor, command_id,
                   request_id, hash, client_address,
                   coalesce((SELECT hash FROM events AS earlier WHERE earlier.position = events.position - 1),
                            decode(repeat('00', 32), 'hex')) AS previous
            FROM events
            WHERE position > $9 AND position <= $10
              AND ($1::text IS NULL OR project = $1)
              AND (NOT $2::boolean OR project IS NULL)
              AND ($3::uuid IS NULL OR job = $3)
              AND ($4::text IS NULL OR actor = $4)
              AND ($5::text[] IS NULL OR type = ANY ($5))
              AND ($6::text IS NULL OR request_id = $6)
              AND ($7::uuid IS NULL OR position BETWEEN (SELECT first_position FROM commands WHERE id = $7)
                                                    AND (SELECT last_position FROM commands WHERE id = $7))
              AND ($8::jsonb IS NULL OR (job IS NOT NULL AND selected(jsonb_strip_nulls(
                    coalesce((SELECT (data #> '{spec,labels}')::jsonb FROM events AS submitted
                              WHERE submitted.job = events.job AND submitted.type = 'JobSubmitted'
                              ORDER BY position LIMIT 1), '{}')
                    || coalesce((SELECT jsonb_object_agg(data ->> 'name', data ->> 'value' ORDER BY position)
                                 FROM events AS labelled
                                 WHERE labelled.job = events.job AND labelled.type = 'LabelSet'
                                   AND labelled.position <= events.position), '{}')), $8)))
            ORDER BY position LIMIT $11
        ) AS found
    ) AS sized
    WHERE stored_before < $12
) AS weighed
WHERE bytes_before < $12 ORDER BY position
