"""The optimizer of our recipe: Muon for matrices inside the blocks, AdamW for the rest, on float32 master weights."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .muon import Muon


class MasterOptimizer:
    """Steps float32 copies of a model's weights, so that in bfloat16 small updates are not rounded away.

    With `torch.distributed` set up, gradients are averaged over all processes in one message.
    """

    def __init__(self, model: nn.Module, matrix_rate: float, other_rate: float, weight_decay: float) -> None:
        self._weights = list(model.parameters())
        self._master = [weight.detach().float().clone() for weight in self._weights]
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        named = zip(model.named_parameters(), self._master, strict=True)
        for (name, weight), master in named:
            (matrices if weight.ndim == 2 and "embed" not in name and "lm_head" not in name else others).append(master)
        self._optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, matrix_rate, weight_decay, products=self._weights[0].dtype),
            torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._rates = (matrix_rate, other_rate)

    def step(self, rate: float, norm_max: float = 1.0) -> float:
        """Update with learning rates times `rate`; return the norm of the gradient before clipping."""
        gradient = torch.cat([_gradient(weight) for weight in self._weights])
        if dist.is_initialized():
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        norm = float(gradient.norm())
        gradient *= min(1.0, norm_max / (norm + 1e-6))
        offset = 0
        for weight, master in zip(self._weights, self._master, strict=True):
            master.grad = gradient[offset : offset + master.numel()].view_as(master)
            offset += master.numel()
            weight.grad = None
        for optimizer, base in zip(self._optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
            optimizer.step()
        with torch.no_grad():
            for weight, master in zip(self._weights, self._master, strict=True):
                weight.copy_(master)
        return norm

    def set_rates(self, matrix_rate: float, other_rate: float) -> None:
        self._rates = (matrix_rate, other_rate)

    def state(self) -> dict[str, object]:
        return {"master": self._master, "optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load(self, state: dict[str, object]) -> None:
        with torch.no_grad():
            for weight, master, saved in zip(self._weights, self._master, state["master"], strict=True):  # type: ignore[call-overload]
                master.copy_(saved)
                weight.copy_(saved)
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):  # type: ignore[call-overload]
            optimizer.load_state_dict(saved)


def _gradient(weight: Tensor) -> Tensor:
    if weight.grad is None:
        return torch.zeros(weight.numel(), device=weight.device)
    return weight.grad.float().flatten()
