"""How much of a node's storage something takes: what the engine's room and the supervisor both add up with.

`tree` adds up folders, `unlinked` files without a name, `threads` does so beside the event loop, and `share`
says how often. `own_storage` and `storage_watch`, a floor above, say of which folders, and what follows.
"""
