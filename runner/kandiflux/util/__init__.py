"""Small helpers that every room uses: JSON from outside, paths, locks, text for a terminal."""
