"""One ComfyUI over HTTP and websocket: requests, answers and events. Knows nothing of jobs."""
