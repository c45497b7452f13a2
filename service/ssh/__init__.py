"""SSH into a job's container: `gateway` listens, `entrance` lets in, `session` and `forward` lead on.

What is within a container is reached through `ports`, which `service.app` fills.
"""
