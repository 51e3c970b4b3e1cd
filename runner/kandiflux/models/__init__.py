"""Model files: which are needed, where they are, and how they are downloaded and verified."""
