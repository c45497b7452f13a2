"""Two supervisors of one engine, of which one is stopped past its lease and goes on where it stood."""
