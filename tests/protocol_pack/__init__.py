"""A node pack that pokes at a host's protocol. It runs in ComfyUI and in the lite host."""

from .probes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
