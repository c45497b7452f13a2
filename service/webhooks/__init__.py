"""Webhooks: a project's events, brought to URLs that it registered, at least once and in order per job.

`deliverer` does it for all of them, in one process at a time (`duty`); an `outbox` is one webhook's; `send`
is one request; `progress` is what is remembered of how far each has come.
"""
