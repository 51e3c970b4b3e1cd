"""Prompts: layers composed into a prompt for a model, and a linter. Pure Python, no torch, no host."""
