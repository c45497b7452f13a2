-- Credits of a project that are no run's. (The rows of bills and prices are made anew with this migration.)
CREATE TABLE fold_credits PARTITION OF folds FOR VALUES IN ('credits');
CREATE INDEX credits_project ON fold_credits ((row ->> 'project'));
GRANT SELECT ON fold_credits TO jobyard_service;
