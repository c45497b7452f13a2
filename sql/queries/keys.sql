-- name: first_key
SELECT id, nonce, box FROM project_keys WHERE project = $1

-- name: keys_by_id
-- $1: ids of projects' or jobs' keys.
SELECT own.id, own.project, own.nonce, own.box,
       NULL::uuid AS job, NULL::bytea AS job_nonce, NULL::bytea AS job_box, NULL::text AS job_key
FROM project_keys own WHERE own.id = ANY ($1::text[])
UNION ALL
SELECT own.id, own.project, own.nonce, own.box, made.job, made.nonce, made.box, made.id
FROM job_keys made JOIN project_keys own ON own.id = made.project_key
WHERE made.id = ANY ($1::text[])

-- name: add_key
INSERT INTO project_keys (id, project, nonce, box) VALUES ($1, $2, $3, $4) ON CONFLICT (project) DO NOTHING

-- name: job_key
-- The job's key: the one that is given, unless it has one. Touched, so that no sweep takes it for left over.
INSERT INTO job_keys AS known (id, job, project_key, nonce, box) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (job) DO UPDATE SET made_at = clock_timestamp()
RETURNING id, project_key, nonce, box

-- name: job_key_ids
SELECT id FROM job_keys WHERE job = $1

-- name: last_destroyed
-- The hash of the event: a failover may lose one and have another at its position. None where there is none.
SELECT hash FROM events WHERE position = (
    SELECT max(position) FROM events
    WHERE type IN ('KeyDestroyed', 'ProjectKeyDestroyed') AND position <= (SELECT position FROM ledger_head)
)

-- name: destroy_told
-- Every key that an event says is destroyed, of whatever age: no kill between the two leaves one. A project's
-- key takes those of its jobs along. An event that is no part of the ledger says nothing: this cannot be undone.
WITH told AS (
    SELECT type, job, data FROM events
    WHERE type IN ('KeyDestroyed', 'ProjectKeyDestroyed')
      AND position BETWEEN 1 AND (SELECT position FROM ledger_head)
), ids AS (
    SELECT type, json_array_elements_text(data -> 'keyIds') AS id FROM told
), of_projects AS (
    DELETE FROM project_keys WHERE id IN (SELECT id FROM ids WHERE type = 'ProjectKeyDestroyed')
    RETURNING 1
), of_jobs AS (
    DELETE FROM job_keys
    WHERE job IN (SELECT job FROM told WHERE type = 'KeyDestroyed')
       OR project_key IN (SELECT id FROM ids WHERE type = 'ProjectKeyDestroyed')
    RETURNING 1
)
SELECT (SELECT count(*) FROM of_projects) + (SELECT count(*) FROM of_jobs)

-- name: destroy_left_over
-- Keys made for jobs whose submit was refused. $1: as old as this at least.
DELETE FROM job_keys
WHERE made_at < clock_timestamp() - $1::interval
  AND NOT EXISTS (SELECT FROM fold_status WHERE key = job_keys.job::text)

-- name: let_go
SET lock_timeout = '2s'

-- name: rewrite
VACUUM (FULL, VERBOSE) project_keys, job_keys
