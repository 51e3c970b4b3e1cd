"""The node pack: thin node classes over models/, sampling/ and host.py."""
