-- Lists of jobs as of a position: what is wanted of a job is said once, for the lists of now and of then.

-- Whether a job is one of those that are asked for. Every argument but the project may be null and then asks
-- for nothing. It is one plain expression, so that the planner takes it apart and uses the indexes.
CREATE FUNCTION job_wanted(
    job jsonb, project text, states text[], terms jsonb, name text, username text,
    updated_after timestamptz, updated_before timestamptz
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT job ->> 'project' = job_wanted.project
      AND NOT coalesce((job ->> 'deleted')::boolean, false)
      AND (job_wanted.states IS NULL OR job ->> 'state' = ANY (job_wanted.states))
      AND (job_wanted.terms IS NULL OR selected(job #> '{spec,labels}', job_wanted.terms))
      AND (job_wanted.name IS NULL OR job #>> '{spec,name}' = job_wanted.name)
      AND (job_wanted.username IS NULL OR job ->> 'user' = job_wanted.username)
      AND (job_wanted.updated_after IS NULL
           OR (job ->> 'updatedAt')::timestamptz > job_wanted.updated_after)
      AND (job_wanted.updated_before IS NULL
           OR (job ->> 'updatedAt')::timestamptz < job_wanted.updated_before)
$$;

-- The jobs of now.
CREATE OR REPLACE FUNCTION jobs_wanted(
    project text, states text[], terms jsonb, name text, username text,
    updated_after timestamptz, updated_before timestamptz
) RETURNS SETOF fold_status LANGUAGE sql STABLE AS $$
    SELECT job.* FROM fold_status job
    WHERE job_wanted(job.row, jobs_wanted.project, jobs_wanted.states, jobs_wanted.terms, jobs_wanted.name,
                     jobs_wanted.username, jobs_wanted.updated_after, jobs_wanted.updated_before)
$$;

-- The jobs of a position: the rows that nothing has touched since stand as they are; `again` are the others,
-- folded again up to there.
CREATE FUNCTION jobs_as_of(
    at bigint, again jsonb[],
    project text, states text[], terms jsonb, name text, username text,
    updated_after timestamptz, updated_before timestamptz
) RETURNS SETOF jsonb LANGUAGE sql STABLE AS $$
    SELECT job.row FROM (
        SELECT same.row FROM fold_status same WHERE same.position <= jobs_as_of.at
        UNION ALL
        SELECT folded.row FROM unnest(jobs_as_of.again) AS folded (row)
    ) AS job
    WHERE job_wanted(job.row, jobs_as_of.project, jobs_as_of.states, jobs_as_of.terms, jobs_as_of.name,
                     jobs_as_of.username, jobs_as_of.updated_after, jobs_as_of.updated_before)
$$;
