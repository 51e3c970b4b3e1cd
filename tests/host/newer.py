"""inside.py in a ComfyUI that does as newer ones do, where that touches the pack; see docs/compatibility.md. Stand-ins,
for what the pack must get along with: layers without weights until a state dict is loaded, in whatever dtype that has;
an autoencoder's output that is changed in place or not at all; a CLIP that has to be told to be loaded as before; and
ways of the VAE to say how large it is. Not a test: test_newer_comfyui.py starts it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import inside  # pyright: ignore[reportMissingImports]


def main() -> None:
    load_pack = inside.load_pack

    def with_stand_ins(folder: Path) -> dict[str, Any]:
        lazy_layers()
        output_in_place()
        clips_that_are_told()
        return load_pack(folder)

    inside.load_pack = with_stand_ins
    inside.main()


def lazy_layers() -> None:
    import comfy.ops
    from torch import nn

    def make_lazy(kind: Any, weight: Any) -> None:
        """Layers of the class `kind`, and of its subclasses that don't bring their own way of loading, begin without a
        weight; a state dict's is taken as it is. `weight`: what stands there before."""

        def init(self: Any, rows: int, columns: int, *args: Any, **options: Any) -> None:
            super(kind, self).__init__(rows, columns, *args, **options)
            if type(self)._load_from_state_dict is load_lazily:
                self.weight = weight(self.weight)
                if getattr(self, "bias", None) is not None:
                    self.bias = None

        def load_lazily(self: Any, state: Any, prefix: str, local: Any, *rest: Any) -> None:
            if type(self)._load_from_state_dict is not load_lazily:
                super(kind, self)._load_from_state_dict(state, prefix, local, *rest)
                return
            for name in ("weight", "bias"):
                if (value := state.get(prefix + name)) is not None:
                    value = value if local.get("assign_to_params_buffers") else value.clone()
                    setattr(self, name, nn.Parameter(value, requires_grad=False))
            assert self.weight is not None

        kind.__init__, kind._load_from_state_dict = init, load_lazily

    make_lazy(comfy.ops.disable_weight_init.Linear, lambda weight: None)
    make_lazy(
        comfy.ops.disable_weight_init.Embedding,
        lambda weight: nn.Parameter(weight.to("meta"), requires_grad=False),
    )


def output_in_place() -> None:
    import comfy.sd
    import torch

    def decode(self: Any, samples: Any, vae_options: Any = None) -> Any:
        assert self.size is None or self.size == sum(p.nbytes for p in self.first_stage_model.parameters()), (
            "the size is another autoencoder's"
        )
        out = self.first_stage_model.decode(samples.to(self.vae_dtype)).to(torch.float32, copy=True)
        self.process_output(out)
        return out.movedim(1, -1)

    comfy.sd.VAE.decode = decode


def clips_that_are_told() -> None:
    import comfy.sd

    make = comfy.sd.CLIP.__init__

    def init(self: Any, *args: Any, disable_dynamic: bool = False, **options: Any) -> None:
        make(self, *args, **options)
        assert disable_dynamic or options.get("no_init"), "this CLIP would be streamed in ComfyUI's new way"

    comfy.sd.CLIP.__init__ = init


if __name__ == "__main__":
    main()
