"""Converts the graph editor's format to the API format; `convert.convert` puts the steps together."""
