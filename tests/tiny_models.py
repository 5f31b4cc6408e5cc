"""Tiny models for tests: real architectures with random weights and a tokenizer trained on a few lines."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from luthier.models.local import End, LocalModel

# other work wants the cores too, and a tiny matrix gains nothing from a second thread
torch.set_num_threads(1)

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    "{{ '<turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' + message['content'] | trim }}"
    "{{ '</turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% endif %}{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "turns": TURNS, "brackets": BRACKETS, "plain": None}
SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<turn>", "</turn>"]
LINES = [
    "the red house by the sea is a place where a dog and a cat live with a man called Noel",
    "number of animals, how many are there when it rains? seventy-two or a hundred and ten",
    "user assistant system model location abbreviation description entity human numeric",
    "Say which kind of thing this is about. Where is Oslo? Who wrote it? What does it stand for?",
]


@cache
def trained_tokenizer(lines: tuple[str, ...] = tuple(LINES)) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def tiny_tokenizer(template: str = "chatml", *, eos: str | None = "</s>", lines: tuple[str, ...] = ()) -> Any:
    """Its eos is not the token that ends a turn in `chatml` and `turns`, as with many real models."""
    trained = Tokenizer.from_str(trained_tokenizer(lines or tuple(LINES)).to_str())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained, bos_token="<s>", eos_token=eos, pad_token="<pad>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def tiny_module(
    kind: str = "llama", *, seed: int = 0, context: int = 512, vocabulary: int = 400, border: int = 24
) -> Any:
    """A causal model with random weights, large enough that its log-probabilities differ a lot.

    `border`: the tokens beyond which "longrope" turns positions otherwise.
    """
    shape = {**WIDE, "vocab_size": vocabulary, "max_position_embeddings": context, "pad_token_id": 0}
    shared = {**shape, "num_key_value_heads": 2, "head_dim": 8}
    torch.manual_seed(seed)
    module: Any
    if kind == "llama":
        module = LlamaForCausalLM(LlamaConfig(**shared, tie_word_embeddings=True))
    elif kind == "qwen2":
        module = Qwen2ForCausalLM(Qwen2Config(**{**shared, "num_key_value_heads": 4}))
    elif kind == "qwen3":
        module = Qwen3ForCausalLM(Qwen3Config(**shared))
    elif kind == "gemma2":
        window = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
        module = Gemma2ForCausalLM(Gemma2Config(**shared, **window))
    elif kind == "gemma":
        module = GemmaForCausalLM(GemmaConfig(**shared))
    elif kind == "gemma3":
        window = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
        module = Gemma3ForCausalLM(Gemma3TextConfig(**shared, **window))
    elif kind == "longrope":
        rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
        module = LlamaForCausalLM(
            LlamaConfig(**shared, rope_parameters={**rope, "original_max_position_embeddings": border})
        )
    elif kind == "gpt_neo":
        local = {"attention_types": [[["global", "local"], 1]], "window_size": 8, "num_layers": 2, "num_heads": 4}
        sizes = {"vocab_size": vocabulary, "max_position_embeddings": context, "hidden_size": 32}
        module = GPTNeoForCausalLM(GPTNeoConfig(**sizes, **local))
    elif kind == "gpt2":
        config = GPT2Config(vocab_size=vocabulary, n_positions=context, n_embd=32, n_layer=2, n_head=4)
        module = GPT2LMHeadModel(config)
    elif kind == "mamba":
        module = MambaForCausalLM(MambaConfig(vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2))
    else:
        raise ValueError(kind)
    with torch.no_grad():
        for weight in module.parameters():
            # as initialised, a tiny model gives every token the same probability
            if weight.dim() == 2 and kind != "mamba":
                weight.normal_(std=0.25)
    return module.eval()


def tiny_model(
    kind: str = "llama",
    *,
    template: str = "chatml",
    seed: int = 0,
    context: int = 512,
    max_row_tokens: int = 96,
    end: End = "turn",
    border: int = 24,
) -> LocalModel:
    module = tiny_module(kind, seed=seed, context=context, border=border)
    name = f"{kind}-{seed}"
    tokenizer = tiny_tokenizer(template)
    return LocalModel(module, tokenizer, name=name, fingerprint=name, max_row_tokens=max_row_tokens, end=end)
