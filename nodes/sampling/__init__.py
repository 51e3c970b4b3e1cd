"""Schedulers and sampling loops: pure torch, no import of any host."""
