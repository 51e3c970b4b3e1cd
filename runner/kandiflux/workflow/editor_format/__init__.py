"""Converts the graph editor's format to the API format; `convert.convert` runs all steps."""
