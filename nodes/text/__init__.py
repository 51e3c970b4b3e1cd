"""Prompts: layers composed into the words a model reads best, and a linter. Pure Python, no torch, no host."""
