"""The product on a clock of its own, among parts that break by a seed.

`loop` is the clock; `postgres` the database, with `locks` on its rows, a `connection` that answers
`statements`, and `ledger`, the product's own over it; `docker` the fake engine with faults, `stores` the
object store; `process` what may crash or be stopped, `api` the product's API in such a one, `clients` who
asks it. `oracle` is what must be true after every step, `truth` what really happened, `answers` what must be
true of what clients were told, `scenario` a seed's story, `planted` and `untrue` the bugs that the simulation
has to find. `conformance` holds the parts in memory to the real ones.
"""
