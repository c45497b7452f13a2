-- Where a request came from. The hash of an event that has none covers nothing of it, so that older hashes hold.
ALTER TABLE events ADD COLUMN client_address text;
-- An audit asks for what one request did.
CREATE INDEX events_of_request ON events (request_id, position) WHERE request_id IS NOT NULL;

-- The checkpoints that were signed and put where they are kept, as their notes. What counts is what lies there;
-- this tells when something is missing there.
CREATE TABLE checkpoints (
    size      bigint PRIMARY KEY,
    note      text NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER checkpoints_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON checkpoints TO jobyard_service;
