-- Projects have registries since this version. Their rows say so too, as those do that a rebuild makes, or a
-- comparison of the two would find a difference in every project that was there before.
UPDATE folds SET row = row || '{"registries": {}}' WHERE fold = 'projects' AND NOT row ? 'registries';
UPDATE ledger_head SET rebuilds = rebuilds + 1;
