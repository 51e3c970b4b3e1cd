"""Starting a ComfyUI or the lite host, and finding servers that run."""
