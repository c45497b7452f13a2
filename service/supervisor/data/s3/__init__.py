"""One S3 store, and the few that are kept open."""
