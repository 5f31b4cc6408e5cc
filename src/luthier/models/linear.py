"""Linear layers on CPUs: by oneDNN's matrix products where those that torch chooses are slower.

For fp32 torch calls MKL, which takes slower kernels on processors that are not Intel's: on an AMD EPYC (Zen 4, two
cores) oneDNN needs three quarters of MKL's time for layers of 256 tokens or more, and a third for two tokens on a
vocabulary; labels of prompts then take 0.8 to 0.85 of the time, texts and training steps 0.9. On an Intel Xeon
(Sapphire Rapids) MKL is the faster one, for few tokens by up to two times. The sums are the same but for their order.
`python benchmarks/products.py` measures it; docs/decisions/0025 says more.

oneDNN compiles a product for each number of tokens it meets and keeps what it compiled, by default a gigabyte of it:
here it keeps the last few, and compiles again what comes back later, a millisecond each.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra

try:
    import torch
    import torch.nn.functional as functional
    from torch.autograd.function import once_differentiable
except ImportError as error:
    raise MissingExtra("local", "a local model") from error

CPUINFO = Path("/proc/cpuinfo")
KEPT_PRODUCTS = "64"  # about as many MB; a pass needs ten
for cache_of_products in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):  # read at the first product
    os.environ.setdefault(cache_of_products, KEPT_PRODUCTS)


def product(x: Any, weight: Any, bias: Any = None) -> Any:
    """x W' + b, as `torch.nn.functional.linear`: x [..., in], weight [out, in], bias [out] -> [..., out].

    Not differentiable: for a function of autograd's own, or where no gradient is wanted.
    """
    if _suits(x, weight) and x.numel():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


def with_products(module: Any) -> Any:
    """`module` itself, whose plain linear layers now multiply by `product`; nothing else about it changes."""
    for layer in module.modules():
        if type(layer) is torch.nn.Linear:
            layer.__class__ = Linear
    return module


class Linear(torch.nn.Linear):  # type: ignore[misc]  # torch is untyped here
    """torch's linear layer, with the same weights and gradients, by `product`."""

    def forward(self, input: Any) -> Any:
        given = (input, self.weight, self.bias)
        if not _suits(input, self.weight):
            return functional.linear(*given)
        if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in given):
            return _Linear.apply(*given)
        return product(*given)


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        for_x, for_weight, for_bias = ctx.needs_input_grad
        flat = grad.reshape(-1, grad.shape[-1])
        return (
            product(grad, weight.t()) if for_x else None,
            product(flat.t(), x.reshape(-1, x.shape[-1]).t()) if for_weight else None,
            flat.sum(0) if for_bias else None,
        )


@cache
def faster() -> bool:
    """Whether oneDNN's products are used: on x86 processors that are not Intel's, where torch has them."""
    return platform.machine().lower() in {"x86_64", "amd64"} and not _intel() and available()


def available() -> bool:
    """Whether torch has oneDNN's products here, and they are right."""
    if not torch.backends.mkldnn.is_available():
        return False
    one = torch.ones(2, 3)
    try:
        found = torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):  # torch keeps it for its own compiler, and may change it
        return False
    return bool(torch.equal(found, torch.full((2, 2), 3.0)))


def _intel() -> bool:
    try:
        return "GenuineIntel" in CPUINFO.read_text("utf-8")
    except OSError:
        return "AuthenticAMD" not in os.environ.get("PROCESSOR_IDENTIFIER", "")


def _suits(x: Any, weight: Any) -> bool:
    plain = all(tensor.device.type == "cpu" and tensor.dtype is torch.float32 for tensor in (x, weight))
    return plain and not torch.is_autocast_enabled("cpu") and faster()
