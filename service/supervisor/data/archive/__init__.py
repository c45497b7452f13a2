"""Volumes that are one archive in a store: pulled and pushed as such, and the archives themselves."""
