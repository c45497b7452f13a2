-- name: end_stuck
-- End our own connections that hold a lock others wait for, and have waited for their client for $1 seconds.
-- Postgres itself ends those that are idle in a transaction, but not one whose client was lost between the
-- parsing of a statement and its execution: that one counts as at work.
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity AS activity
WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid()
  AND application_name = 'jobyard' AND xact_start IS NOT NULL AND wait_event = 'ClientRead'
  AND greatest(query_start, state_change) < clock_timestamp() - make_interval(secs => $1)
  AND EXISTS (
      SELECT FROM pg_locks AS lock
      WHERE lock.pid = activity.pid AND lock.granted AND lock.mode IN ('RowShareLock', 'RowExclusiveLock')
        AND lock.relation IN ('jobyard.ledger_head'::regclass, 'jobyard.leases'::regclass)
  )
