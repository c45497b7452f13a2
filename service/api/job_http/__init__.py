"""A job's own HTTP service, reached through the API's port: who may, where to, and what passes."""
