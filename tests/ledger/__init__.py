"""The ledger on a real Postgres: order, batches, lost connections, tampering, rebuilds, leases, keys."""
