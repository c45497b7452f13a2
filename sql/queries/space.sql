-- name: little_memory
-- The least that can be set, for this transaction.
SELECT set_config('work_mem', '64kB', true)

-- name: spill
-- Some 290 KiB, far more than the memory for it: they go to a temporary file in the data directory.
SELECT count(*) FROM generate_series(1, 20000)
