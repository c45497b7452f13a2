"""What must hold for every input: Hypothesis against the domain, the folds and the canonical JSON."""
