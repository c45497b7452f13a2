"""The event stream: what happens, as it happens, from any position on, each event once and in order.

`asked` reads a request, `feed` reads the ledger for all streams of the process, `socket` and `sse` bring a
stream to its client, `page` answers what is past, `asyncapi` is the document of all this.
"""
