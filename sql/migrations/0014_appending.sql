-- What an append is handed: an array of each of these, and not one for each column. A driver takes a row apart for
-- less than it looks at each value of thirteen arrays, and Postgres puts it together for less.
CREATE TYPE new_event AS (
    position       bigint,
    project        text,
    job            uuid,
    run            integer,
    type           text,
    data           json,
    occurred_at    timestamptz,
    actor          text,
    command_id     uuid,
    request_id     text,
    hash           bytea,
    client_address text
);
CREATE TYPE new_command AS (id uuid, digest bytea, first_position bigint, last_position bigint);
CREATE TYPE new_row AS (fold text, key text, position bigint, row jsonb);

-- The head's lock, and what is looked at under it, in one round trip. Each statement in here sees what was committed
-- before it began: so the rows are those of when the lock was ours, and so is the time. `rows` are those of
-- `folds` and `keys`, those that there are; `known` are the commands of `ids` that were carried out before.
CREATE FUNCTION take_head(
    folds text[], keys text[], ids uuid[],
    OUT at bigint, OUT rebuilds bigint, OUT hash bytea, OUT now timestamptz,
    OUT rows new_row[], OUT known new_command[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT head.position, head.rebuilds, head.hash, head.recorded_at
    INTO take_head.at, take_head.rebuilds, take_head.hash, take_head.now
    FROM ledger_head AS head FOR UPDATE;
    take_head.now := greatest(clock_timestamp(), take_head.now);
    take_head.rows := ARRAY(
        SELECT ROW (f.fold, f.key, f.position, f.row)::new_row
        FROM unnest(take_head.folds, take_head.keys) AS wanted (fold, key)
        JOIN jobyard.folds AS f ON f.fold = wanted.fold AND f.key = wanted.key
    );
    take_head.known := ARRAY(
        SELECT ROW (c.id, c.digest, c.first_position, c.last_position)::new_command
        FROM commands AS c WHERE c.id = ANY (take_head.ids)
    );
END
$$;
