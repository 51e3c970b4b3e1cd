"""ComfyUI and the lite host as processes: starting them, finding those that run."""
