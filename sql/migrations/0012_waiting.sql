-- What was refused for a limit of its project a moment ago, so that it is not recorded again at once.
CREATE TABLE fold_refusals PARTITION OF folds FOR VALUES IN ('refusals');
GRANT SELECT ON fold_refusals TO jobyard_service;

-- What a project was refused and what it may use, and what supervisors said as they began: few among all.
CREATE INDEX events_refused ON events (project, position) WHERE type = 'SubmissionRefused';
CREATE INDEX events_of_limits ON events (position) WHERE type IN ('ProjectCreated', 'QuotaSet');
CREATE INDEX events_of_the_yard ON events (type, position) WHERE project IS NULL;

-- The jobs that were there at a moment of the past: those whose latest event came after it.
CREATE INDEX status_position ON fold_status (position);
