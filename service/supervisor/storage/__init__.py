"""What a run takes of its node's storage: added up while it runs, and the run stopped when it is too much.

`tree` adds up folders, `unlinked` files without a name, `threads` does so beside the event loop, `own` says
which folders are a run's own, `watcher` looks again and again, and `share` says how often. What the
container's own layer takes is the engine's to say (`Engine.usage`).
"""
