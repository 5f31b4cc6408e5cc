"""Training: how long a fine-tune takes and how much memory it needs, before anyone has run it. Estimates, all of them.

One example: LoRA on 7 billion parameters with 3 million tokens takes 4 N D = 8.4e16 operations; a GPU of 165 TFLOPS
that reaches 35 % of it needs 0.404 hours. After a real fine-tune its measured tokens a second replace this.
Sources: Kaplan et al. 2020 (2 N operations a token forward, 4 N backward; with frozen weights the backward pass needs
half as many); Rajbhandari et al. 2020 (ZeRO: 16 bytes a parameter for mixed precision with Adam); Dettmers et al. 2023
(QLoRA).
"""

from __future__ import annotations

from typing import Literal

Method = Literal["lora", "qlora", "full"]

# operations for a parameter and a token: forward 2, backward 4, half of which frozen weights do not need; recomputing
# activations runs the forward pass once more
OPERATIONS: dict[tuple[Method, bool], float] = {
    ("lora", False): 4.0,
    ("lora", True): 6.0,
    ("qlora", False): 4.0,
    ("qlora", True): 6.0,
    ("full", False): 6.0,
    ("full", True): 8.0,
}
QLORA_BYTES = 0.516  # 4 bits, and the double-quantized constants of each block of 64
ADAM_BYTES = 16.0  # 2 weights, 2 gradients, 4 + 4 + 4 master weights and both moments
FP32_GRADIENTS = 2.0
MFU = 0.35  # what training usually reaches of a GPU's peak: assumed


def flops(parameters: float, tokens: float, method: Method = "lora", *, recompute: bool = False) -> float:
    """Floating-point operations of training on so many tokens (each counted as often as it is seen)."""
    return OPERATIONS[method, recompute] * parameters * tokens


def hours(operations: float, tflops: float, mfu: float = MFU) -> float:
    """How long that takes a device with this peak, in hours."""
    return operations / (tflops * 1e12 * mfu * 3600.0)


def lora_parameters(rank: int, shapes: list[tuple[int, int]], layers: int) -> int:
    """Added weights of LoRA: for each adapted matrix of (inputs, outputs), rank * (inputs + outputs), in each layer.

    >>> lora_parameters(8, [(4096, 4096), (4096, 4096)], 32)
    4194304
    """
    return layers * sum(rank * (inputs + outputs) for inputs, outputs in shapes)


def memory_gb(
    parameters: float,
    method: Method = "lora",
    *,
    trainable: float = 0.0,
    fp32_gradients: bool = False,
    activations_gb: float = 0.0,
) -> float:
    """GB (1e9 bytes) that weights, gradients and the optimizer need, with the activations that are given."""
    adam = ADAM_BYTES + (FP32_GRADIENTS if fp32_gradients else 0.0)
    of_base = {"full": 0.0, "lora": 2.0, "qlora": QLORA_BYTES}[method] * parameters
    trained = parameters if method == "full" else trainable
    return (of_base + adam * trained) / 1e9 + activations_gb


PREFILL_MFU = 0.3  # of the peak, reading prompts in batches: assumed
DECODE_SHARE = 0.6  # of the memory's bandwidth, writing: assumed
DECODE_BATCH = 16  # requests that share one pass over the weights while writing: assumed
BYTES_A_WEIGHT = 2.0


def seconds_a_request(
    parameters: float, tokens_in: float, tokens_out: float, tflops: float, gb_per_s: float | None
) -> float:
    """How long a GPU works on one request, the share of its batch: reading bound by arithmetic, writing by memory."""
    reading = 2.0 * parameters * tokens_in / (tflops * 1e12 * PREFILL_MFU)
    by_arithmetic = 2.0 * parameters * tokens_out / (tflops * 1e12 * PREFILL_MFU)
    by_memory = 0.0
    if gb_per_s:
        by_memory = tokens_out * BYTES_A_WEIGHT * parameters / (gb_per_s * 1e9 * DECODE_SHARE * DECODE_BATCH)
    return reading + max(by_arithmetic, by_memory)
