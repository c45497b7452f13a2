-- name: of_job
-- A job's events, each with the hash of the one before it. $1 job, $2 the last position.
SELECT own.position, own.project, own.job, own.run, own.type, own.data, own.occurred_at, own.recorded_at,
       own.actor, own.command_id, own.request_id, own.client_address, own.hash, before.hash AS previous
FROM events own LEFT JOIN events before ON before.position = own.position - 1
WHERE own.job = $1 AND own.position <= $2
ORDER BY own.position

-- name: of_project
-- What a project's decisions depend on beside its jobs. $1 project, $2 the last position, $3 types.
SELECT own.position, own.project, own.job, own.run, own.type, own.data, own.occurred_at, own.recorded_at,
       own.actor, own.command_id, own.request_id, own.client_address, own.hash, before.hash AS previous
FROM events own LEFT JOIN events before ON before.position = own.position - 1
WHERE own.project = $1 AND own.job IS NULL AND own.position <= $2 AND own.type = ANY ($3::text[])
ORDER BY own.position

-- name: of_yard
-- The price book, and the supervisors of some engines. $1 the last position, $2 engines.
SELECT own.position, own.project, own.job, own.run, own.type, own.data, own.occurred_at, own.recorded_at,
       own.actor, own.command_id, own.request_id, own.client_address, own.hash, before.hash AS previous
FROM events own LEFT JOIN events before ON before.position = own.position - 1
WHERE own.project IS NULL AND own.position <= $1
  AND (own.type = 'PricesSet' OR own.type = 'SupervisorStarted' AND own.data ->> 'engine' = ANY ($2::text[]))
ORDER BY own.position

-- name: held
-- What the runs hold of an engine's node that were placed on it and had not ended. $1 engine, $2 before this position.
WITH placed AS (
    SELECT job, position FROM events
    WHERE type = 'RunPlaced' AND position < $2 AND data ->> 'engine' = $1
), holding AS (
    SELECT placed.job FROM placed
    WHERE NOT EXISTS (
        SELECT FROM events ended
        WHERE ended.job = placed.job AND ended.position > placed.position AND ended.position < $2
          AND ended.type IN ('RunFinalized', 'RunErrored', 'RunQueued')
    )
)
SELECT coalesce(sum((data #>> '{spec,resources,cpus}')::bigint), 0)::bigint AS cpus,
       coalesce(sum((data #>> '{spec,resources,memory}')::bigint), 0)::bigint AS memory,
       coalesce(sum(CASE data #>> '{spec,resources,kind}'
           WHEN 'gpu' THEN (data #>> '{spec,resources,units}')::bigint END), 0)::bigint AS gpus
FROM holding JOIN events submitted ON submitted.job = holding.job AND submitted.type = 'JobSubmitted'

-- name: server_version
SHOW server_version

-- name: schema
SELECT max(version) FROM schema_migrations
