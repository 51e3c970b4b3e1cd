"""Node classes, thin wrappers of models/, sampling/ and host.py."""
