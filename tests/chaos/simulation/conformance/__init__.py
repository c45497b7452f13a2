"""The simulation's parts against the real ones: the same tests for both, the same commands side by side."""
