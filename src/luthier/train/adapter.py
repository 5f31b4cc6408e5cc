"""The adapter: what a recipe makes trainable around or in a copy of a model, and the folder it is written to."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import MissingExtra, ModelError, SpecError
from luthier.models.linear import product
from luthier.models.quiet import quiet
from luthier.train.recipe import Method, Recipe

try:
    import torch
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
    from peft.tuners.lora import Linear
    from safetensors.torch import load_file, save_file
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.pytorch_utils import Conv1D
except ImportError as error:
    raise MissingExtra("train", "fine-tuning") from error

NAME = "default"


def adapted(module: Any, recipe: Recipe, *, seed: int) -> Any:
    """A copy of `module` in which alone what the recipe trains is trainable; `module` stays as it is.

    LoRA and DoRA: fresh layers around weights that are frozen, and shared with `module`, not copied. QLoRA: the same
    around `module` itself, which is 4 bits wide and nobody else's (`train.quantized`). Full: all weights of a real
    copy, in which tied weights stay tied. The first outputs are those of `module`, since B is 0; A is drawn from PEFT's
    distribution by `seed` alone. Nothing is ever dropped out. Raises ModelError where there is no linear layer to
    adapt.
    """
    if recipe.method == "full":
        tuned = copy.deepcopy(module).requires_grad_(True)
    else:
        tuned = _with_layers(module, recipe, seed=seed)
    for layer in tuned.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = _Frugal(layer.forward, recipe.pass_tokens)
    return tuned.eval()


def _with_layers(module: Any, recipe: Recipe, *, seed: int) -> Any:
    config = lora_config(recipe, module)
    if recipe.method == "lora":
        config._register_custom_module({torch.nn.Linear: LeanLinear})
    try:
        with quiet():
            around = module if recipe.method == "qlora" else frozen_copy(module)
            tuned = inject_adapter_in_model(config, around, adapter_name=NAME)
    except ValueError as error:
        raise ModelError(f"no LoRA layers can be added: {error}", fix="choose another student model") from error
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(tuned.named_parameters()):
        parameter.requires_grad_("lora_" in name)
        if "lora_A" in name:
            fresh = torch.empty(parameter.shape)
            torch.nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
            parameter.data.copy_(fresh)
    return tuned


def frozen_copy(module: Any) -> Any:
    """A copy whose weights are the same memory, frozen without freezing those of `module`."""
    shared: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    for parameter in module.parameters():
        shared[id(parameter)] = torch.nn.Parameter(parameter.data, requires_grad=False)
    return copy.deepcopy(module, shared)


def lora_config(recipe: Recipe, module: Any) -> Any:
    """PEFT's configuration of a recipe: all linear layers but the output head; embeddings stay as they are.

    SpecError where the model has fewer decoder layers than the recipe adapts.
    """
    return _config(recipe, "all-linear" if recipe.upper_layers is None else _upper(module, recipe.upper_layers))


def decoder_layers(module: Any) -> list[tuple[str, Any]]:
    """Names and layers of what reads text, the first one the input's; parts of a layer are none of their own."""
    decoder = module.get_decoder() or module
    within = {id(part) for part in decoder.modules()}
    found: list[tuple[str, Any]] = []
    for name, layer in module.named_modules():
        nested = bool(found) and name.startswith(f"{found[-1][0]}.")
        if isinstance(layer, GradientCheckpointingLayer) and id(layer) in within and not nested:
            found.append((name, layer))
    return found


def _upper(module: Any, count: int) -> list[str]:
    """The names of all linear layers in the uppermost `count` decoder layers."""
    layers = decoder_layers(module)
    if not 0 < count <= len(layers):
        raise SpecError(
            f"the model has {len(layers)} decoder layers to choose from, and {count} are to be adapted",
            where="luthier.toml, [training] upper_layers",
            fix=f"ask for 1 to {len(layers)}, or leave it out to adapt all" if layers else "leave it out to adapt all",
        )
    return [
        f"{name}.{part}"
        for name, layer in layers[-count:]
        for part, child in layer.named_modules()
        if isinstance(child, (torch.nn.Linear, Conv1D))
    ]


def _config(recipe: Recipe, targets: str | list[str]) -> Any:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        use_dora=recipe.method == "dora",
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )


def trained_weights(module: Any, method: Method) -> dict[str, Any]:
    """A copy of what was trained, on the CPU: an adapter's weights by PEFT's names, or all of a model's by its own."""
    if method == "full":
        found = dict(trainable(module))  # tied weights are named once
    else:
        found = get_peft_model_state_dict(module, adapter_name=NAME, save_embedding_layers=False)
        found = {f"base_model.model.{name}": weight for name, weight in found.items()}
    return {name: weight.detach().cpu().clone() for name, weight in sorted(found.items())}


def put_weights(module: Any, weights: Mapping[str, Any], method: Method) -> None:
    """Set what is trainable in `module` to what `trained_weights` gave. Raises ModelError where they do not fit."""
    names = trained_weights(module, method).keys()
    if names != weights.keys():
        raise ModelError("the weights to start from are not those of this recipe", fix="start from the base model")
    for name, parameter in trainable(module):
        saved = name if method == "full" else _peft_name(name)
        parameter.data.copy_(weights[saved])


def _peft_name(name: str) -> str:
    plain = name.replace(f".{NAME}", "")
    return f"base_model.model.{plain.removesuffix('.weight') if 'lora_magnitude' in plain else plain}"


def trainable(module: Any) -> list[tuple[str, Any]]:
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]


def write_adapter(folder: Path, weights: Mapping[str, Any], recipe: Recipe, base_name: str) -> None:
    """The folder that PEFT loads: the same bytes for the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in weights}
    config = _config(recipe, sorted(layers)).to_dict()
    config |= {"base_model_name_or_path": base_name, "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    save_file(dict(weights), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    text = json.dumps(plain, indent=1, sort_keys=True)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def read_adapter(folder: Path) -> tuple[dict[str, Any], int, int]:
    """The weights that `write_adapter` wrote, with their rank and alpha. Raises ModelError where there are none."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        return load_file(folder / "adapter_model.safetensors"), int(config["r"]), int(config["lora_alpha"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the adapter cannot be read: {error}", where=str(folder), fix="fit it again") from error


def write_weights(folder: Path, weights: Mapping[str, Any], base: Any) -> None:
    """A model folder of a full fine-tune: config, safetensors (what is tied stands in it once) and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    module = base.module
    named = dict(module.named_parameters(remove_duplicate=False))
    buffers = {name: value for name, value in module.state_dict().items() if name not in named}
    with quiet():
        module.save_pretrained(folder, state_dict={**buffers, **weights})
        base.tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class _Frugal:
    """A decoder layer that remembers only its input when that is long, and is run again in the backward pass.

    An example above `pass_tokens` runs alone, and may be as long as the context: remembering all that its layers
    compute takes 2 MB a token in a model of 135 M parameters. A third more time, the same gradients.
    """

    forward: Callable[..., Any]
    limit: int

    def __call__(self, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        if hidden.shape[1] <= self.limit or not torch.is_grad_enabled():
            return self.forward(hidden, *args, **kwargs)
        return checkpoint(self.forward, hidden, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


class _LeanLora(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """x W' + b + s (x A') B', and its gradients, without a pass over memory that is not needed.

    About a fifth less time than autograd over PEFT's own sum; the gradients are the same sums.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ a.t()
        out = product(flat, weight, bias).addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(flat, low, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        flat, low, weight, a, b = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        low_grad = (grad @ b).mul_(ctx.scale)
        b_grad = (grad.t() @ low).mul_(ctx.scale)
        a_grad = low_grad.t() @ flat
        x_grad = None
        if ctx.needs_input_grad[0]:  # not in the first layer: what it reads are frozen embeddings
            x_grad = product(grad, weight.t()).addmm_(low_grad, a).view(ctx.shape)
        return x_grad, None, None, a_grad, b_grad, None


class LeanLinear(Linear):  # type: ignore[misc]  # peft is untyped
    """PEFT's LoRA layer with a leaner forward and backward."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        base = self.base_layer
        a, b = self.lora_A[NAME].weight, self.lora_B[NAME].weight
        return _LeanLora.apply(x, base.weight, base.bias, a, b, self.scaling[NAME])
