"""Jobs on one server: submits them once, follows them to their end, and saves their files."""
