"""One rule at a time, without any part: decide, evolve, reading, pricing, quota, configuration, vault."""
