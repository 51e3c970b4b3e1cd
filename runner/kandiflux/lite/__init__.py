"""The lite host: a small server that speaks ComfyUI's protocol and runs a node pack without ComfyUI.

Its frames and responses are those of ComfyUI 0.33; tests/host compares the two. It is stricter than ComfyUI in these
points, for the safety of the host or the user:

- Host names other than localhost and the address it listens on need --allow-host (origin.py). `Origin: null` and
  requests from other sites get 403.
- A request body gets 400 if it contains NaN, an infinity, a number too large for a float, more than 200 levels or wrong
  types. So does a prompt_id that is not a lowercase UUID (as in ComfyUI 0.33) or an invalid file name (http.py).
- Values that nodes return are sent as valid JSON: NaN becomes null (jsontext.py).
- /view and /userdata send all files except raster images, audio and video as downloads (http.py, shown_type).
- The size of error responses, progress_state frames and a client's unread frames is limited (validate.py, progress.py,
  sockets.py).
- A job that cannot be started is added to the history with an execution_error.
"""
