"""Model files: which there are, where they lie, how they are downloaded and verified."""
