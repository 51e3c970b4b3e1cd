"""Workflows: loading, parameters, conversion to the API format, and validation."""
