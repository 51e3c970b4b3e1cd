"""Model files: which a workflow needs, where they belong, and getting them there."""
