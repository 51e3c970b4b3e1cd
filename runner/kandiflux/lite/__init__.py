"""The lite host: a small server that speaks ComfyUI's protocol and runs a node pack without ComfyUI.

It follows ComfyUI 0.3.64 frame by frame and answer by answer; tests/host compares the two.
"""
