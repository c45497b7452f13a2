"""Ways into a running container that need nothing of its image: its files and its network.

`hold` makes sure whose process it is; `enter` is a program of its own that goes in with the job's own rights;
`sftp` (with `paths`, `packets`) is what it speaks there; `containers` is what the service calls.
"""
