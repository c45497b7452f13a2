-- name: load
SELECT f.fold, f.key, f.row
FROM unnest($1::text[], $2::text[]) AS wanted (fold, key)
JOIN folds f ON f.fold = wanted.fold AND f.key = wanted.key

-- name: save
INSERT INTO folds (fold, key, position, row)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[])
ON CONFLICT (fold, key) DO UPDATE SET position = excluded.position, row = excluded.row

-- name: make_shadow
-- A temporary table hides the real one of the same name, so that every statement here works on the shadow.
CREATE TEMPORARY TABLE folds (fold text, key text, position bigint, row jsonb, PRIMARY KEY (fold, key))

-- name: count_shadow
-- A temporary table is not counted by itself, and one that is thought to be small is joined in the slowest way.
ANALYZE pg_temp.folds

-- name: drop_shadow
DROP TABLE IF EXISTS pg_temp.folds

-- name: differences
-- Also those that are only written in another way: rows from before a field was left out where it has its default.
-- The position counts as well: by it a row is that of a moment of the past, or is folded again.
SELECT coalesce(live.key, shadow.key) AS key, live.row AS live, shadow.row AS rebuilt,
       live.position AS live_position, shadow.position AS rebuilt_position
FROM (SELECT key, row, position FROM jobyard.folds WHERE fold = $1) live
FULL JOIN (SELECT key, row, position FROM pg_temp.folds WHERE fold = $1) shadow ON shadow.key = live.key
WHERE live.row IS DISTINCT FROM shadow.row OR live.position IS DISTINCT FROM shadow.position
ORDER BY 1

-- name: count_rows
SELECT count(*) FROM pg_temp.folds WHERE fold = $1

-- name: drop_strays
-- The live rows of a fold that no event makes.
DELETE FROM jobyard.folds AS live
WHERE live.fold = $1
  AND NOT EXISTS (SELECT FROM pg_temp.folds AS shadow WHERE shadow.fold = live.fold AND shadow.key = live.key)

-- name: swap_in
-- Those that are the same already stay: the head is locked meanwhile, and mostly all of them are.
INSERT INTO jobyard.folds AS live (fold, key, position, row)
SELECT shadow.fold, shadow.key, shadow.position, shadow.row
FROM pg_temp.folds AS shadow
LEFT JOIN jobyard.folds AS known ON known.fold = shadow.fold AND known.key = shadow.key
WHERE shadow.fold = $1 AND (known.row IS DISTINCT FROM shadow.row OR known.position <> shadow.position)
ON CONFLICT (fold, key) DO UPDATE SET position = excluded.position, row = excluded.row

-- name: count_rebuild
UPDATE jobyard.ledger_head SET rebuilds = rebuilds + 1
