-- name: bound
-- Of this transaction: it is ended when it waits $1 ms for its client, or a process that was stopped here would
-- keep all others from the lease.
SELECT set_config('idle_in_transaction_session_timeout', $1, true)

-- name: renew
-- $5: whether the runs are looked after. `renewed_at` is when they last were, as the next holder tells of them.
UPDATE leases
SET renewed_at = CASE WHEN $5 THEN clock_timestamp() ELSE renewed_at END,
    expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE engine = $1 AND holder = $2 AND epoch = $3
RETURNING epoch

-- name: look
SELECT engine, epoch, holder, renewed_at, expires_at, expires_at <= clock_timestamp() AS expired,
       expires_at <= renewed_at AS released
FROM leases WHERE engine = $1 FOR UPDATE

-- name: take
-- $4: whether the holder is known to be gone. `renewed_at` stays, until what
-- was left has been taken over: of who is cut off before, nobody may think that the runs were looked after.
INSERT INTO leases (engine, epoch, holder, renewed_at, expires_at)
VALUES ($1, 1, $2, clock_timestamp(), clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (engine) DO UPDATE
SET epoch = leases.epoch + 1, holder = excluded.holder,
    expires_at = excluded.expires_at
WHERE leases.expires_at <= clock_timestamp() OR $4::boolean
RETURNING epoch

-- name: release
-- Both are one moment: that tells a lease that was given back from one that ran out.
UPDATE leases SET expires_at = renewed_at
WHERE engine = $1 AND holder = $2 AND epoch = $3

-- name: database
-- Numbers of databases are of their server alone. `place` is for roles that may see it.
SELECT oid::bigint AS number, has_function_privilege('pg_control_system()', 'EXECUTE') AS server_is_told,
       CASE WHEN pg_has_role('pg_read_all_settings', 'MEMBER') THEN current_setting('data_directory') END AS place
FROM pg_database WHERE datname = current_database()

-- name: server
SELECT system_identifier FROM pg_control_system()

-- name: all
SELECT engine, expires_at > clock_timestamp() AS held,
       greatest(0, extract(epoch FROM clock_timestamp() - renewed_at))::float8 AS seen_s
FROM leases ORDER BY engine
