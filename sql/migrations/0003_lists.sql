-- Lists of jobs: which ones, and in which order, said once for all the statements that ask.

-- Whether labels meet every term of a selector: service/domain/selectors.py says what each means.
CREATE FUNCTION selected(labels jsonb, terms jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT terms IS NULL OR NOT EXISTS (
        SELECT FROM jsonb_array_elements(terms) AS term
        WHERE NOT CASE term ->> 'op'
            WHEN 'in' THEN coalesce(term -> 'values' ? (labels ->> (term ->> 'name')), false)
            WHEN 'notin' THEN NOT coalesce(term -> 'values' ? (labels ->> (term ->> 'name')), false)
            WHEN 'exists' THEN labels ? (term ->> 'name')
            WHEN 'absent' THEN NOT labels ? (term ->> 'name')
            ELSE false
        END
    )
$$;

-- What a job is ordered by, as text that sorts right in the "C" collation; '' where it has none.
CREATE FUNCTION job_key(job jsonb, sort text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(CASE sort
        WHEN 'id' THEN job ->> 'id'
        WHEN 'user' THEN job ->> 'user'
        WHEN 'updatedAt' THEN lpad(job ->> 'position', 20, '0')
        WHEN 'spec.name' THEN job #>> '{spec,name}'
        WHEN 'spec.image' THEN job #>> '{spec,image}'
        WHEN 'spec.timeout' THEN lpad(job #>> '{spec,timeout}', 20, '0')
        WHEN 'spec.resources.flavor' THEN job #>> '{spec,resources,flavor}'
        WHEN 'spec.resources.cpu' THEN lpad(job #>> '{spec,resources,cpus}', 20, '0')
        WHEN 'spec.resources.gpu' THEN CASE job #>> '{spec,resources,kind}'
            WHEN 'gpu' THEN lpad(job #>> '{spec,resources,units}', 20, '0') END
        WHEN 'status.state' THEN job ->> 'state'
        WHEN 'status.exitCode' THEN lpad(job ->> 'exitCode', 20, '0')
        WHEN 'status.queuedAt' THEN lpad(job ->> 'queuedPosition', 20, '0')
        ELSE to_char((job ->> CASE sort
            WHEN 'status.initializingAt' THEN 'initializingAt'
            WHEN 'status.startedAt' THEN 'startedAt'
            WHEN 'status.stoppedAt' THEN 'stoppedAt'
            WHEN 'status.finalizedAt' THEN 'finalizedAt'
            WHEN 'status.timeoutAt' THEN 'timeoutAt'
            WHEN 'status.lastTransitionDate' THEN 'lastTransitionAt'
        END)::timestamptz AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
    END, '')
$$;

-- The jobs of a project that are there. Every other argument may be null and then asks for nothing. It is
-- one plain SELECT, so that the planner takes it apart and uses the indexes.
CREATE FUNCTION jobs_wanted(
    project text, states text[], terms jsonb, name text, username text,
    updated_after timestamptz, updated_before timestamptz
) RETURNS SETOF fold_status LANGUAGE sql STABLE AS $$
    SELECT job.* FROM fold_status job
    WHERE job.row ->> 'project' = jobs_wanted.project
      AND NOT coalesce((job.row ->> 'deleted')::boolean, false)
      AND (jobs_wanted.states IS NULL OR job.row ->> 'state' = ANY (jobs_wanted.states))
      AND (jobs_wanted.terms IS NULL OR selected(job.row #> '{spec,labels}', jobs_wanted.terms))
      AND (jobs_wanted.name IS NULL OR job.row #>> '{spec,name}' = jobs_wanted.name)
      AND (jobs_wanted.username IS NULL OR job.row ->> 'user' = jobs_wanted.username)
      AND (jobs_wanted.updated_after IS NULL
           OR (job.row ->> 'updatedAt')::timestamptz > jobs_wanted.updated_after)
      AND (jobs_wanted.updated_before IS NULL
           OR (job.row ->> 'updatedAt')::timestamptz < jobs_wanted.updated_before)
$$;

-- What each engine's node can offer, as its supervisor said when it began.
CREATE TABLE fold_nodes PARTITION OF folds FOR VALUES IN ('nodes');
GRANT SELECT ON fold_nodes TO jobyard_service;
