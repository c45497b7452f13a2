"""`kill -9` of every part at random moments under load; then the clients' own log of answers, the engine, the
jobs' own marks and the ledger are compared: nothing acknowledged is lost, nothing was done twice.
"""
