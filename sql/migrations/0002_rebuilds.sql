-- A writer remembers rows while nobody else appends. A rebuild appends nothing and yet changes rows, so it
-- is counted, and a writer that finds another count forgets what it remembers.
ALTER TABLE ledger_head ADD COLUMN rebuilds bigint NOT NULL DEFAULT 0;
