"""Bills: what a run costs and why, statements of a month, price books, replays. All pure.

`run` is the bill of one run as its events make it, `faults` the rule by which we pay for our own,
`statement` puts a project's month together.
"""
