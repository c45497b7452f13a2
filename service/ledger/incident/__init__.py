"""An incident in one file: what happened to a job, on what it was decided, and the same decisions anew.

`gather` takes it out of a ledger, `bundle` is the file, `replay` needs nothing but the file.
"""
