"""Jobs on one server: submitted once, followed to their end, their files saved."""
