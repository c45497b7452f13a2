-- Projects have volumes of their own since: the rows of those that are there have none yet.
UPDATE folds SET row = row || '{"volumes": {}}' WHERE fold = 'projects' AND NOT row ? 'volumes';
