"""The output of runs, kept whole in files: kept by `keeper`, written by `writer`, read by `reader`."""
