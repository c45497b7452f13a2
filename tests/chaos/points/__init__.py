"""A crash at every point: between any two things that the service does to anything outside of itself.

What it does outside of itself goes through few seams: Postgres (the writer, leases, keys), the engine, the
object store, files. `seams` wraps them in a process of the tests, `points` names what crosses them and ends
the process (`os._exit`) at one, `program` is the service made of those parts, `ground` is what outlives it,
`story` what its users do, `verdict` what must hold when all is over. `plants` are bugs that must be found.
"""
