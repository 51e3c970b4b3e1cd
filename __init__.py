"""kandiflux, as ComfyUI (and the lite host) imports it: model folders, then nodes.

Imported by path, as the package this folder is; nothing happens where it is not imported as a package.
"""

if __package__:  # pytest and linters may import this file on its own
    from .nodes.host import on_comfyui, register_model_folders

    register_model_folders()

    from .nodes import conditioning, embeds, flux, kandinsky, kandinsky3, loaders, prompt

    _MODULES = [loaders, kandinsky, embeds, kandinsky3, conditioning, flux, prompt]
    if on_comfyui():
        from .nodes import native

        _MODULES.append(native)
    _NODES = {name: node for module in _MODULES for name, node in module.NODES.items()}
    NODE_CLASS_MAPPINGS = {name: node for name, (node, _) in _NODES.items()}
    NODE_DISPLAY_NAME_MAPPINGS = {name: title for name, (_, title) in _NODES.items()}

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
