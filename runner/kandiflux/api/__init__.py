"""One ComfyUI over HTTP and websocket: requests, answers, events. Knows nothing of jobs."""
