-- Everything that is verified begins at position 1, and everything that is read would take what lies before it for
-- history. NOT VALID: a ledger that has such an event still starts, and `audit verify` names it.
ALTER TABLE events ADD CONSTRAINT events_begin_at_one CHECK (position >= 1) NOT VALID;
