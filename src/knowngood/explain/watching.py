"""One object that owns the hooks on a network: what layers put out, and what the margin owes to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Watch:
    """Sees what named layers put out, as a context; on leaving, the network is as it was.

    Gradients are taken back to the earliest watched layer and no further: the layers before it run without a graph.

    Args:
        network: Its parameters and hooks are put back on leaving, whatever happened inside.
        names: Dotted names of its modules.
        gradients: Whether `gradients_of` will be asked for.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], *, gradients: bool) -> None:
        self.network = network
        self.names = tuple(names)
        self.gradients = gradients
        self.outputs: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._frozen: list[nn.Parameter] = []
        self._modes: list[torch.autograd.grad_mode.inference_mode | torch.enable_grad | torch.no_grad] = []

    def __enter__(self) -> Watch:
        watched = {name: self.network.get_submodule(name) for name in self.names}  # first: it may not be there
        self._modes = [torch.inference_mode(False), torch.enable_grad() if self.gradients else torch.no_grad()]
        for mode in self._modes:
            mode.__enter__()
        self._frozen = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        for name, layer in watched.items():
            self._handles.append(layer.register_forward_hook(self._hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        for mode in reversed(self._modes):
            mode.__exit__(None, None, None)
        self._handles, self._frozen, self._modes, self.outputs = [], [], [], {}

    def gradients_of(self, margins: Tensor) -> dict[str, Tensor]:
        """Returns the gradient of each image's margin by each watched output.

        Args:
            margins: (B,), computed inside the context.

        Returns:
            Name to (B, C, h, w); zeros where the margin does not depend on a layer.
        """
        made = torch.autograd.grad(margins.sum(), list(self.outputs.values()), materialize_grads=True)
        return dict(zip(self.outputs, made, strict=True))

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not self.gradients:
                self.outputs[name] = output.clone()
                return output
            seen = output if output.requires_grad else output.detach().requires_grad_()
            self.outputs[name] = seen
            return seen.clone()  # a ReLU that works in place must not change what was seen

        return keep
