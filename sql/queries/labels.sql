-- name: of_jobs
-- What is needed to tell the labels that jobs $1 had at any position from $2 to $3: those they were submitted
-- with, for each label its last change up to $2, and all changes after that. By job and position.
WITH RECURSIVE wanted AS (
    SELECT DISTINCT job FROM unnest($1::uuid[]) AS each (job)
), named (job, name) AS (
    -- Each name that was ever set, one step of the index each, however often it was.
    SELECT job, (SELECT min(data ->> 'name') FROM events
                 WHERE type = 'LabelSet' AND events.job = wanted.job)
    FROM wanted
    UNION ALL
    SELECT job, (SELECT min(data ->> 'name') FROM events
                 WHERE type = 'LabelSet' AND events.job = named.job AND data ->> 'name' > named.name)
    FROM named WHERE name IS NOT NULL
)
SELECT wanted.job, submitted.position, NULL AS name, NULL AS value, submitted.labels
FROM wanted CROSS JOIN LATERAL (
    SELECT position, (data #> '{spec,labels}')::text AS labels FROM events
    WHERE events.job = wanted.job AND type = 'JobSubmitted' ORDER BY position LIMIT 1
) AS submitted
UNION ALL
SELECT named.job, before.position, named.name, before.value, NULL
FROM named CROSS JOIN LATERAL (
    SELECT position, data ->> 'value' AS value FROM events
    WHERE events.job = named.job AND type = 'LabelSet' AND data ->> 'name' = named.name AND position <= $2
    ORDER BY position DESC LIMIT 1
) AS before
UNION ALL
SELECT events.job, events.position, data ->> 'name', data ->> 'value', NULL
FROM wanted JOIN events ON events.job = wanted.job
WHERE type = 'LabelSet' AND position > $2 AND position <= $3
ORDER BY 1, 2
