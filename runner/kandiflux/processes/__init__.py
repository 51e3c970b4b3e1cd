"""Starts ComfyUI and the lite host as processes, and finds running servers."""
