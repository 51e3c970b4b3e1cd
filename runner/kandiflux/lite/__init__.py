"""The lite host: a small server that speaks ComfyUI's protocol and runs a node pack without ComfyUI.

It follows ComfyUI 0.33 frame by frame and answer by answer; tests/host compares the two. It is
stricter than ComfyUI in these points, each for the host's or the user's safety:

- Host names other than localhost and the address it listens on need --allow-host (origin.py). `Origin: null` and
  requests from other sites get 403.
- A request body with NaN, an infinity, a number beyond a float, or more than 200 levels gets 400. So do wrong types,
  a prompt_id that is not a UUID in lower case (as in ComfyUI 0.33), and names that no file can have (http.py).
- What nodes return is sent as valid JSON: NaN becomes null (jsontext.py).
- /view and /userdata send everything but raster pictures, sound and video as a download (http.py, shown_type).
- Error answers, progress_state frames and unread frames of a client are limited in size (validate.py, progress.py,
  sockets.py).
- A job that cannot even be started ends in the history with an execution_error.
"""
