"""Workflows: read from a file, their parameters, converted to what a server runs, checked."""
