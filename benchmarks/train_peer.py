"""The peer's side of benchmarks/train.py: python train_peer.py JOB.json ANSWER.json.

TRL's SFTTrainer gets the token ids that luthier renders, with labels on the answers alone, and the adapter that luthier
begins with; its batches are its own, by length, and are told so that luthier can take the same.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from luthier.train.adapter import adapted, lora_config, trained_weights
from luthier.train.check import dev_scores
from luthier.train.recipe import Recipe
from luthier.train.rows import DevRow, TrainRow


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ticks.append(time.perf_counter())

    def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


class Recorder(DataCollatorForLanguageModeling):
    """TRL's own collator, which also writes down what it was given."""

    seen: list[list[tuple[int, ...]]]

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        self.seen.append([tuple(example["input_ids"]) for example in examples])
        return super().torch_call(examples)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    torch.set_num_threads(job["threads"])
    recipe, rows = Recipe(**job["recipe"]), job["rows"]
    module = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, local_files_only=True).eval()
    start = trained_weights(adapted(module, recipe, seed=job["seed"]), recipe.method)
    model = get_peft_model(module, lora_config(recipe, module))
    set_peft_model_state_dict(model, start)
    tokenizer = AutoTokenizer.from_pretrained(job["model"], local_files_only=True)
    steps = len(rows) // recipe.step_examples
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: recipe.rate_at(step, steps) / recipe.learning_rate
    )
    arguments = SFTConfig(
        output_dir=job["scratch"],
        per_device_train_batch_size=recipe.step_examples,
        num_train_epochs=1,
        max_grad_norm=recipe.clip_norm,
        train_sampling_strategy="group_by_length",
        max_length=None,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
        seed=job["seed"],
    )
    clock = Clock()
    collator = Recorder(pad_token_id=tokenizer.pad_token_id)
    collator.seen = []
    data = {
        "input_ids": [row["input_ids"] for row in rows],
        "labels": [[-100] * row["labels_from"] + row["input_ids"][row["labels_from"] :] for row in rows],
    }
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer,
        data_collator=collator,
        optimizers=(optimizer, rates),
        callbacks=[clock],
    )
    trainer.train()
    base = model.get_base_model().eval()
    dev = [DevRow((TrainRow(tuple(row["input_ids"]), row["labels_from"]),), (0,)) for row in job["dev"]]
    places: dict[tuple[int, ...], list[int]] = {}
    for at, row in enumerate(rows):
        places.setdefault(tuple(row["input_ids"]), []).append(at)
    batches = [[places[ids].pop() for ids in batch] for batch in collator.seen]
    seconds = clock.ticks[-1] - clock.ticks[0]
    counted = [at for batch in batches[1:] for at in batch]
    answer = {
        "seconds": seconds,
        "examples_per_second": len(counted) / seconds,
        "tokens_per_second": sum(len(rows[at]["input_ids"]) for at in counted) / seconds,
        "dev_loss": dev_scores(base, dev, recipe.pass_tokens, shared=False)[1],
        "losses": clock.losses,
        "batches": batches,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
