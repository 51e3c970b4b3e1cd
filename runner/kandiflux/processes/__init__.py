"""ComfyUI and the lite host as processes: starts them, and finds those that run."""
