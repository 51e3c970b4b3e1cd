"""Checks whether a workflow can run on a server: what is missing or not valid, and what to do about it."""
