"""What jobs waited for, and would have waited for: the yard of the past, planned again by the same `plan`.

`yard` is the yard as a supervisor's plans saw it, `moments` its changes one after the other, `reasons` what
binds a job at one of them, `why` a run's whole wait; `history`, `simulate` and `compare` are what-if. Pure.
"""
