-- A job's row says for how much storage its run was stopped since: those that are there were not.
UPDATE folds SET row = row || '{"storageUsed": null}' WHERE fold = 'status' AND NOT row ? 'storageUsed';
