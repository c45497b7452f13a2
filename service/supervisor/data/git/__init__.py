"""Volumes from git repositories: the program git in its cage, bound to one server."""
