"""What is broken on purpose, and what was lost: nothing.

Each folder or file breaks one kind of thing. The normal tests run a short form of each; `python3 -m service
test --chaos` runs them at full length. Every one has a planted bug that it must catch: those are tests too.
"""
