"""Linear layers by oneDNN: the same layer as torch's, and torch's own wherever oneDNN is no gain."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model, tiny_module

from luthier.models import linear
from luthier.models.linear import Linear, faster, product, with_products


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    faster.cache_clear()
    yield
    faster.cache_clear()


def on(monkeypatch: pytest.MonkeyPatch, folder: Path, vendor: str) -> bool:
    """Whether oneDNN is used on a processor of this vendor."""
    (folder / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n", encoding="utf-8")
    monkeypatch.setattr(linear, "CPUINFO", folder / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return faster()


needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN")
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@needs_onednn
@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans())
def test_a_layer_and_its_gradients_are_those_of_torch(
    shape: tuple[int, ...], inwards: int, outwards: int, bias: bool, frozen: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "faster", lambda: True)
        torch.manual_seed(1)
        plain = torch.nn.Sequential(torch.nn.Linear(inwards, outwards, bias=bias)).requires_grad_(not frozen)
        ours = with_products(copy.deepcopy(plain))
        one, other = (torch.randn(*shape, inwards, generator=torch.Generator().manual_seed(2)) for _ in range(2))
        for module, x in ((plain, one), (ours, other)):
            module(x.requires_grad_()).square().sum().backward()
        with torch.inference_mode():
            assert torch.allclose(plain(one), ours(other), atol=1e-4)
        assert torch.allclose(one.grad, other.grad, atol=1e-3)
        for theirs, mine in zip(plain.parameters(), ours.parameters(), strict=True):
            assert (theirs.grad is None) == (mine.grad is None) == frozen
            assert frozen or torch.allclose(theirs.grad, mine.grad, atol=1e-3)


@needs_onednn
def test_views_of_larger_tensors_multiply_as_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "faster", lambda: True)
    many, weight = torch.randn(30, 50), torch.randn(20, 30)
    pairs = ((many[:, 3:33], weight), (many.t()[:, :30], weight), (many[:, :20], weight.t()))
    expected = [x @ w.t() for x, w in pairs]
    monkeypatch.setattr(functional, "linear", None)  # oneDNN or nothing
    for (x, w), right in zip(pairs, expected, strict=True):
        assert torch.allclose(product(x, w), right, atol=1e-4)


@needs_onednn
def test_a_layer_of_which_the_bias_alone_is_trained_has_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "faster", lambda: True)
    (layer,) = with_products(torch.nn.Sequential(torch.nn.Linear(3, 2))).requires_grad_(False)
    layer.bias.requires_grad_(True)
    layer(torch.ones(4, 3)).sum().backward()
    assert layer.bias.grad.tolist() == [4.0, 4.0]


def test_local_models_multiply_by_it() -> None:
    plain = [layer for layer in tiny_model().module.modules() if isinstance(layer, torch.nn.Linear)]
    assert plain
    assert {type(layer) for layer in plain} == {Linear}


@needs_onednn
def test_products_of_many_sizes_take_no_memory_of_their_own() -> None:
    script = (
        "import resource, torch\n"
        "from luthier.models import linear\n"
        "linear.faster = lambda: True\n"
        "one, other = torch.randn(1536, 576), torch.randn(576, 1536)\n"
        "def run(sizes):\n"
        "    for size in sizes:\n"
        "        linear.product(torch.ones(size, 576), one), linear.product(torch.ones(size, 1536), other)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "torch.set_num_threads(1)\n"
        "before = run(range(20, 60))\n"
        "print(run(range(60, 300)) - before)\n"
    )
    plain = {name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=plain)
    assert float(done.stdout) < 60, "MB; without a limit several hundred"


@needs_onednn
def test_other_precisions_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "faster", lambda: True)
    layer = with_products(torch.nn.Sequential(torch.nn.Linear(6, 5)))
    x = torch.randn(3, 6)
    assert layer.double()(x.double()).dtype is torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.float()(x).dtype is torch.bfloat16


@needs_onednn
def test_it_is_used_on_amd_and_not_on_intel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert on(monkeypatch, tmp_path, "AuthenticAMD")
    faster.cache_clear()
    assert not on(monkeypatch, tmp_path, "GenuineIntel")


@needs_onednn
def test_a_torch_without_the_operator_multiplies_as_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Gone:
        def __getattr__(self, name: str) -> None:
            raise AttributeError(name)

    monkeypatch.setattr(torch.ops, "mkldnn", Gone())
    assert not on(monkeypatch, tmp_path, "AuthenticAMD")
    assert with_products(torch.nn.Sequential(torch.nn.Linear(3, 2)))(torch.ones(1, 3)).shape == (1, 2)


def test_only_plain_layers_change_and_tied_weights_stay_tied() -> None:
    module = tiny_module("llama")
    names = set(module.state_dict())
    assert with_products(module) is module
    assert set(module.state_dict()) == names
    assert module.lm_head.weight is module.get_input_embeddings().weight

    class Other(torch.nn.Linear):
        """Somebody's own."""

    assert type(with_products(torch.nn.Sequential(Other(2, 2)))[0]) is Other
