"""Whether a workflow can run on a server: what is missing, what does not fit, and what to do about it."""
