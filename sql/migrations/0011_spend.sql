-- What each project has spent, month by month, and its budget: decided on under the head lock.
CREATE TABLE fold_spend PARTITION OF folds FOR VALUES IN ('spend');
GRANT SELECT ON fold_spend TO jobyard_service;
