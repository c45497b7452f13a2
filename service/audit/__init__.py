"""What makes the ledger's past provable: signed checkpoints, kept elsewhere, and what stands on them."""
