"""Going out to where a user said: only to addresses that may be connected to. Below API and supervisor."""
