"""Exports: files that other programs load, whose answers are those that were measured, or that are no release."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from builders import write_task
from peft import PeftModel
from safetensors.torch import load_file, save_file
from test_cli import call
from test_climb import task_at
from tiny_models import tiny_model, tiny_module, tiny_tokenizer
from tiny_release import TOML, climbed, interleaved, rows, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

import luthier
from luthier.errors import ModelError, SpecError, StoreError
from luthier.models import catalog
from luthier.models.quiet import quiet
from luthier.release import gguf_file, manifest, runtimes, source
from luthier.release.asking import Asked, as_asked, one_of_each_group
from luthier.release.card import guard_line
from luthier.release.export import Release, Settings, export
from luthier.release.parity import Answer, Bar, Parity, fewest_examples, judge
from luthier.release.runtimes import Unusable
from luthier.rungs.base import Writing
from luthier.store import Store
from luthier.types import Event, Example, Prediction, Score, Task

HAS_LLAMA = True
try:
    import xllamacpp  # noqa: F401
except ImportError:
    HAS_LLAMA = False

# 32 examples can prove a margin of 0.1: tests have to be fast
FEW = Bar(examples=32, margin=0.1)
TEXTS = ["the dog 3", "the seven 4", "many a cow"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return climbed(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def tuned(task: Task) -> Any:
    return source.find(task).load(catalog.open_model(task.spec.models["student"]))


@pytest.fixture(scope="module")
def release(task: Task) -> Release:
    return export(task, settings=Settings(formats=("adapter", "merged"), bar=FEW))


def logits(module: Any, texts: list[str]) -> list[Any]:
    chat = tiny_model().chat
    ids = [chat.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
    with torch.no_grad():
        return [module(each).logits for each in ids]


def same_logits(module: Any, other: Any, atol: float = 1e-4) -> bool:
    found = zip(logits(module.eval(), TEXTS), logits(other.eval(), TEXTS), strict=True)
    return all(torch.allclose(one, two, atol=atol, rtol=0) for one, two in found)


# ------------------------------------------------------------ the files


def test_each_export_passes_and_says_so(task: Task, release: Release) -> None:
    assert [(each.format, each.gate.result) for each in release.exports] == [
        ("adapter", "PASSED"),
        ("merged", "PASSED"),
    ]
    assert release.passed
    assert release.candidate == source.find(task).run.summary["verdict"]["chosen"]
    for each in release.exports:
        assert each.gate.n == 32
        assert each.gate.agreement is not None
        assert each.gate.agreement.mean == 1.0
        assert each.gate.export_score is not None
        assert each.gate.export_score > 0.9
        assert each.folder == release.folder / each.format


def test_the_adapter_is_what_peft_loads_on_the_base(task: Task, tuned: Any, release: Release) -> None:
    base = AutoModelForCausalLM.from_pretrained(task.spec.models["student"])
    assert not same_logits(base, tuned.model.module)
    with quiet():  # peft reads what transformers is about to rename
        adapted = PeftModel.from_pretrained(base, release.folder / "adapter")
    assert same_logits(adapted, tuned.model.module)


def test_the_merged_folder_is_what_transformers_loads_tied_and_with_its_template(tuned: Any, release: Release) -> None:
    """Trap 14: tied embeddings stay tied, in the file as in memory."""
    folder = release.folder / "merged"
    module = AutoModelForCausalLM.from_pretrained(folder)
    assert same_logits(module, tuned.model.module, atol=0)
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    (prompt,) = tuned.prompts(["the dog 3"])
    chat = [{"role": message.role, "content": message.content} for message in prompt]
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert ids == tuned.model.chat.prompt_ids(prompt)


def test_the_generation_settings_stop_at_the_end_of_a_turn(tuned: Any, release: Release) -> None:
    for name in ("adapter", "merged"):
        stops = json.loads((release.folder / name / "generation_config.json").read_text())["eos_token_id"]
        assert stops[0] == tuned.model.chat.end_of_turn_id != tuned.model.tokenizer.eos_token_id


def test_a_tokenizer_without_a_template_gets_the_one_that_was_used(tmp_path: Path) -> None:
    from luthier.release import portable

    model = tiny_model(template="plain")
    portable.write_merged(tmp_path / "merged", model)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == model.chat.template


# ------------------------------------------------------------ GGUF


@pytest.fixture(scope="module")
def written(task: Task, tuned: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_tuned(target, task, tuned)
    return target


def write_tuned(target: Path, task: Task, tuned: Any, **more: Any) -> None:
    module = tuned.model.module
    gguf_file.write(
        target,
        Path(task.spec.models["student"]) / "base.gguf",
        gguf_file.weights_of(module),
        gguf_file.Shape.of(module.config),
        name="tiny",
        template=tuned.model.chat.template,
        stop_ids=[4, 2],
        **more,
    )


def test_the_tensors_are_the_merged_weights_in_gguf_order(tuned: Any, written: Path) -> None:
    weights, found = tuned.model.module.state_dict(), {t.name: t for t in gguf.GGUFReader(written).tensors}
    assert len(found) == len(weights) - 1, "the tied head is not written"
    plain = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "blk.1.ffn_down.weight": weights["model.layers.1.mlp.down_proj.weight"],
        "blk.1.attn_v.weight": weights["model.layers.1.self_attn.v_proj.weight"],
    }
    for name, tensor in plain.items():
        assert found[name].tensor_type == gguf.GGMLQuantizationType.F16
        assert np.array_equal(found[name].data, tensor.numpy().astype(np.float16))
    for name, heads in (("q", 4), ("k", 2)):
        tensor = interleaved(weights[f"model.layers.1.self_attn.{name}_proj.weight"].numpy(), heads)
        assert np.array_equal(found[f"blk.1.attn_{name}.weight"].data, tensor.astype(np.float16))
    norm = found["blk.0.attn_norm.weight"]
    assert norm.tensor_type == gguf.GGMLQuantizationType.F32
    assert np.array_equal(norm.data, weights["model.layers.0.input_layernorm.weight"].numpy())


def test_a_reader_that_nobody_here_wrote_gets_the_same_model(tuned: Any, written: Path) -> None:
    """transformers' own GGUF loader undoes the order of queries and keys by itself."""
    module = AutoModelForCausalLM.from_pretrained(written.parent, gguf_file=written.name, dtype=torch.float32)
    assert same_logits(module, tuned.model.module, atol=0.05)
    assert not same_logits(AutoModelForCausalLM.from_config(module.config), tuned.model.module, atol=1.0)


def test_the_metadata_is_the_bases_with_the_template_that_was_used(tuned: Any, task: Task, written: Path) -> None:
    own = gguf.GGUFReader(written).fields
    base = gguf.GGUFReader(Path(task.spec.models["student"]) / "base.gguf").fields
    for key in ("llama.rope.freq_base", "tokenizer.ggml.merges", "tokenizer.ggml.pre", "llama.attention.head_count_kv"):
        assert own[key].contents() == base[key].contents()
    assert own["tokenizer.chat_template"].contents() == tuned.model.chat.template
    assert own["tokenizer.ggml.add_bos_token"].contents() is False
    assert own["tokenizer.ggml.eot_token_id"].contents() == 4
    assert own["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_F16


def test_the_same_weights_give_the_same_bytes(task: Task, tuned: Any, written: Path, tmp_path: Path) -> None:
    write_tuned(tmp_path / "again.gguf", task, tuned)
    assert (tmp_path / "again.gguf").read_bytes() == written.read_bytes()


def test_q8_0_stores_matrices_in_eight_bits(task: Task, tuned: Any, tmp_path: Path) -> None:
    write_tuned(tmp_path / "q8.gguf", task, tuned, quantization="q8_0")
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "q8.gguf").tensors}
    kinds = gguf.GGMLQuantizationType
    embedding = found["token_embd.weight"]
    assert embedding.tensor_type == kinds.Q8_0
    weights = tuned.model.module.get_input_embeddings().weight.numpy(force=True)
    assert np.allclose(gguf.quants.dequantize(embedding.data, kinds.Q8_0), weights, atol=0.01)
    assert found["blk.0.ffn_down.weight"].tensor_type == kinds.F16, "48 values a row are no whole blocks of 32"
    assert found["output_norm.weight"].tensor_type == kinds.F32


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda module: module.model.layers[0].self_attn.q_proj.weight.normal_(), "attn_q.weight are others"),
        (lambda module: module.model.norm.weight.mul_(2), "output_norm.weight are others"),
    ],
)
def test_a_gguf_of_another_model_is_refused(change: Callable[[Any], Any], told: str, tmp_path: Path) -> None:
    module, tokenizer = tiny_module(), tiny_tokenizer()
    write_gguf(tmp_path / "base.gguf", module, tokenizer)
    shape = gguf_file.Shape.of(module.config)
    tokens = tokenizer.convert_ids_to_tokens(range(400))
    gguf_file.check_base(tmp_path / "base.gguf", gguf_file.weights_of(module), shape, tokens)
    with torch.no_grad():
        change(module)
    with pytest.raises(ModelError, match=told):
        gguf_file.check_base(tmp_path / "base.gguf", gguf_file.weights_of(module), shape, tokens)


def test_a_gguf_with_another_tokenizer_or_architecture_is_refused(tmp_path: Path) -> None:
    module, tokenizer = tiny_module(), tiny_tokenizer()
    write_gguf(tmp_path / "base.gguf", module, tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(range(400))
    tokens[70], tokens[71] = tokens[71], tokens[70]
    shape = gguf_file.Shape.of(module.config)
    with pytest.raises(ModelError, match="other tokens"):
        gguf_file.check_base(tmp_path / "base.gguf", gguf_file.weights_of(module), shape, tokens)
    with pytest.raises(ModelError, match="llama only, and this is qwen2"):
        gguf_file.Shape.of(tiny_module("qwen2").config)
    (tmp_path / "text.gguf").write_text("no GGUF")
    with pytest.raises(ModelError, match="no GGUF file"):
        gguf_file.check_base(tmp_path / "text.gguf", {}, shape, tokens)


@pytest.mark.skipif(not HAS_LLAMA, reason="llama.cpp is an extra")
def test_llama_cpp_answers_as_measured(task: Task, tmp_path: Path) -> None:
    made = export(task, tmp_path / "out", Settings(formats=("gguf",), bar=FEW))
    (only,) = made.exports
    assert (only.gate.result, only.gate.other_prompts) == ("PASSED", 0), only.gate
    assert [path.name for path in sorted(only.folder.iterdir())] == ["README.md", "model-f16.gguf"]


# ------------------------------------------------------------ the gate


def asked_of(task: Task, tuned: Any) -> tuple[list[Example], list[Prediction], list[Asked]]:
    examples = list(task.dev[:32])
    return examples, tuned.predict([example.input for example in examples]), as_asked(tuned, examples)


def gate(task: Task, tuned: Any, folder: Path) -> Parity:
    from luthier.evaluate.scorers import ExactMatch

    examples, measured, asked = asked_of(task, tuned)
    answers = runtimes.ask_merged(folder, asked, lambda _done, _total: None)
    return judge(examples, measured, answers, ExactMatch(), FEW, labels=True)


def test_tampered_weights_are_caught(task: Task, tuned: Any, release: Release, tmp_path: Path) -> None:
    """Trap 17: what is exported passes the task's own gate, not a perplexity check."""
    folder = Path(shutil.copytree(release.folder / "merged", tmp_path / "merged"))
    assert gate(task, tuned, folder).result == "PASSED"
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.weight"
    weights[name], weights["model.norm.weight"] = -weights[name], -weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    found = gate(task, tuned, folder)
    assert found.result == "FAILED", found
    assert found.lost is not None
    assert found.lost.low > 0.1
    assert found.apart


def test_another_chat_template_is_caught(task: Task, tuned: Any, release: Release, tmp_path: Path) -> None:
    """Trap 4: the prompt that is served is the one that was measured, to the token."""
    folder = Path(shutil.copytree(release.folder / "merged", tmp_path / "merged"))
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("system\n", "system\n\n"))
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + template.read_text())
    found = gate(task, tuned, folder)
    assert (found.result, found.other_prompts) == ("FAILED", 32)
    assert "other tokens" in found.reason


def test_weights_that_cannot_be_loaded_fail_and_are_no_crash(release: Release, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(release.folder / "merged", tmp_path / "merged"))
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(Unusable, match="cannot be loaded"):
        runtimes.ask_merged(folder, [], lambda _done, _total: None)


class Points:
    """A scorer of real scores: the output is the score."""

    def score(self, examples: Any, predictions: Any) -> list[Score]:
        return [Score(None if each.output is None else float(each.output), "") for each in predictions]


def judged(before: list[str], after: list[str | None], bar: Bar = Bar(), *, labels: bool = True) -> Parity:
    examples = [Example(f"e{at}", "?", ("1",)) for at in range(len(before))]
    measured = [Prediction(text) for text in before]
    answers = [Answer(text, None if text else "it broke") for text in after]
    return judge(examples, measured, answers, Points(), bar, labels=labels)


def test_the_gate_proves_both_ways_or_says_neither() -> None:
    assert judged(["1"] * 64, ["1"] * 64).result == "PASSED"
    assert judged(["1"] * 64, ["1"] * 40 + ["0"] * 24).result == "FAILED"
    assert judged(["1"] * 64, ["1"] * 60 + ["0"] * 4).result == "INCONCLUSIVE"
    few = judged(["1"] * 58, ["1"] * 58)
    assert few.result == "INCONCLUSIVE"
    assert "at least 59" in few.reason
    assert judged(["1"] * 59, ["1"] * 59).result == "PASSED"
    assert fewest_examples(0.05) == 59


def test_gains_do_not_pay_for_losses() -> None:
    found = judged(["1", "0"] * 50, ["0", "1"] * 25 + ["1", "0"] * 25)
    assert found.result == "FAILED"
    assert found.difference is not None
    assert found.lost is not None
    assert found.difference.mean == 0.0
    assert found.lost.mean == 0.25


def test_a_wrong_predictor_is_still_told_from_a_broken_export() -> None:
    """Where nothing can be lost, the answers themselves tell: labels that are all others."""
    assert judged(["0"] * 64, ["0.0"] * 64).result == "FAILED"
    assert judged(["0"] * 200, ["0.0"] * 200, labels=False).result == "PASSED"


def test_an_answer_that_fails_has_lost_its_score_and_agrees_with_nothing() -> None:
    found = judged(["1"] * 64, [None] * 64)
    assert found.result == "FAILED"
    assert found.agreement is not None
    assert (found.export_score, found.agreement.mean) == (0.0, 0.0)


def test_real_scores_are_judged_by_betting() -> None:
    same = [str(0.3 + at % 5 / 10) for at in range(200)]
    slightly = [str(float(text) - 0.01 * (at % 2)) for at, text in enumerate(same)]
    found = judged(same, list(slightly), labels=False)
    assert found.lost is not None
    assert (found.result, found.lost.method) == ("PASSED", "betting")
    assert judged(same, [str(float(text) - 0.2) for text in same], labels=False).result == "FAILED"


def test_the_chance_that_a_broken_export_passes_is_at_most_one_in_twenty() -> None:
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(200):  # at the margin itself, the worst case
        harmed = rng.random(80) < 0.05
        passed += judged(["1"] * 80, ["0" if each else "1" for each in harmed]).result == "PASSED"
    assert passed <= 0.05 * 200 + 3 * (200 * 0.05 * 0.95) ** 0.5


def test_real_scores_are_asked_more_examples() -> None:
    for graded, score in ((False, "1"), (True, "0.5")):
        enough = Bar().count(graded=graded)
        assert judged([score] * enough, [score] * enough, labels=False).result == "PASSED"
        assert Bar(examples=7).count(graded=graded) == 7


def test_written_answers_are_asked_with_their_own_limit_and_schema(tuned: Any) -> None:
    schema = {"type": "object"}
    writes = replace(tuned, labels=(), writing=Writing(7, schema))
    (asked,) = as_asked(writes, [Example("e", "the dog 3", ("{}",))])
    assert (asked.max_tokens, asked.schema) == (7, schema)
    assert asked.ids == tuple(tuned.model.chat.prompt_ids(asked.messages))


def test_near_copies_are_asked_once() -> None:
    examples = [Example(f"e{at}", "?", ("1",), group=f"g{at // 3}") for at in range(30)]
    chosen = one_of_each_group(examples, 8, seed=0)
    assert len(chosen) == len({example.group for example in chosen}) == 8
    assert chosen == one_of_each_group(examples, 8, seed=0) != one_of_each_group(examples, 8, seed=1)


# ------------------------------------------------------------ the folder, the manifest, the card


def test_a_failed_export_is_rejected_and_marked_everywhere(task: Task, tmp_path: Path) -> None:
    """Four examples prove nothing, and what is not proven is not shipped either."""
    events: list[Event] = []
    made = export(task, tmp_path / "out", Settings(formats=("merged",), bar=Bar(examples=4)), events.append)
    (only,) = made.exports
    assert not made.passed
    assert only.gate.result == "INCONCLUSIVE"
    assert only.folder == tmp_path / "out" / "rejected" / "merged"
    assert not (tmp_path / "out" / "merged").exists()
    assert "NOT A RELEASE" in (only.folder / "README.md").read_text(encoding="utf-8")
    (told,) = made.manifest["exports"]
    assert (told["release"], told["folder"], told["gate"]["result"]) == (False, "rejected/merged", "INCONCLUSIVE")
    assert any("INCONCLUSIVE" in event.text for event in events)
    assert [(e.done, e.total) for e in events if e.text.startswith("testing merged")][-1] == (3, 4)


def test_the_manifest_knows_each_file_by_content(task: Task, release: Release, tmp_path: Path) -> None:
    content = json.loads((release.folder / "manifest.json").read_text())
    assert content == release.manifest
    assert content["format"] == 1
    assert content["predictor"] == source.find(task).fingerprint
    assert content["run"] == source.find(task).run.id
    files = {name for each in content["exports"] for name in each["files"]}
    assert {"adapter/adapter_model.safetensors", "merged/model.safetensors", "merged/README.md"} <= files
    there = {path.relative_to(release.folder).as_posix() for path in release.folder.rglob("*") if path.is_file()}
    assert there == files | {"manifest.json"}
    assert manifest.changed(release.folder) == []
    copy = Path(shutil.copytree(release.folder, tmp_path / "copy"))
    with (copy / "merged" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert manifest.changed(copy) == ["merged/model.safetensors"]
    text = json.loads((copy / "manifest.json").read_text())
    text["exports"][0]["gate"]["result"] = "FAILED"
    (copy / "manifest.json").write_text(json.dumps(text))
    assert manifest.changed(copy) == ["manifest.json", "merged/model.safetensors"]


def test_the_same_input_gives_the_same_bytes(task: Task, release: Release, tmp_path: Path) -> None:
    again = export(task, tmp_path / "again", Settings(formats=("merged",), bar=FEW)).manifest
    of_both = ("exports", "address")
    assert {**again, "exports": 0, "address": 0} == {**release.manifest, **dict.fromkeys(of_both, 0)}
    assert again["exports"] == release.manifest["exports"][1:]


def test_the_card_says_what_it_is_and_how_to_ask_it(task: Task, release: Release) -> None:
    card = (release.folder / "merged" / "README.md").read_text(encoding="utf-8")
    found = source.find(task)
    assert card.startswith("---\nlicense: mit\nbase_model: ")
    for told in (
        task.findings["data_sha256"],
        found.fingerprint,
        "| outcome | MEETS |",
        f"| forgetting guard | {guard_line(found.candidate)} |",
        "## The parity gate: PASSED",
        "at most 10 % allowed",
        "```text\nClassify.\n```",
        '[{"role": "system", "content": "Classify."}',
        "| adapter | LoRA, rank 16, alpha 32, on 14 linear layers |",
        "| learning rate | 0.01 |",
        "- transformers ",
        "one of: animal, number.",
        "<|im_start|>",
    ):
        assert told in card, told
    assert "NOT A RELEASE" not in card
    assert "NOT MEASURED" not in card
    assert "general text" in guard_line(found.candidate)


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_the_code_of_the_card_runs(
    name: str, task: Task, release: Release, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (release.folder / name / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace("The input goes here.", "the dog 3")
    monkeypatch.chdir(release.folder)
    with quiet():
        exec(compile(code.replace('"BASE"', repr(task.spec.models["student"])), "card", "exec"), {})
    assert capsys.readouterr().out.strip() == "animal"


def test_no_path_of_this_machine_goes_into_what_is_shipped(task: Task, release: Release) -> None:
    for path in release.folder.rglob("*"):
        if path.suffix in (".md", ".json"):
            assert str(task.folder) not in path.read_text(encoding="utf-8"), path


# ------------------------------------------------------------ errors


def test_a_folder_that_is_there_is_not_touched(task: Task, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(StoreError, match="it is there already"):
        export(task, tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_without_a_finished_run_there_is_nothing_to_export(tmp_path: Path) -> None:
    path = write_task(tmp_path, rows(), TOML.format(student='"x"'))
    with pytest.raises(StoreError, match="no finished run"):
        export(luthier.load_task(path))


def test_a_candidate_that_is_not_fine_tuned_or_not_there_has_no_weights(task: Task, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="it is not fine-tuned.*\n.*--candidate lora@"):
        source.find(task, "majority")
    with pytest.raises(SpecError, match="no candidate 'lora'.*\n.*one of: majority, lora@"):
        source.find(task, "lora")
    path = task_at(tmp_path, rungs=("majority", "tfidf"))
    luthier.run(path)
    with pytest.raises(SpecError, match="tfidf: it is not fine-tuned.*\n.*this run has none that is fine-tuned"):
        export(luthier.load_task(path))
    path = task_at(tmp_path / "none", rungs=("majority",))
    luthier.run(path)
    with pytest.raises(SpecError, match="chose no candidate.*\n.*this run has none that is fine-tuned"):
        export(luthier.load_task(path))


def test_a_predictor_that_was_changed_is_not_exported(task: Task, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(task.folder, tmp_path / "project"))
    moved = luthier.load_task(copy / "luthier.toml")
    adapter = source.find(moved).folder / "adapter" / "adapter_model.safetensors"
    content = bytearray(adapter.read_bytes())
    content[-1] ^= 1
    adapter.write_bytes(content)
    with pytest.raises(StoreError, match="is gone or was changed"):
        export(moved, tmp_path / "out")
    shutil.rmtree(adapter.parent.parent)
    with pytest.raises(StoreError, match="is gone or was changed"):
        export(moved, tmp_path / "out")


def test_without_a_gguf_of_the_base_there_is_none_of_the_tune(task: Task, tmp_path: Path) -> None:
    """Asked for it is an error; else it is left out, with its reason."""
    beside = Path(task.spec.models["student"]) / "base.gguf"
    away = beside.rename(tmp_path / "base.gguf")
    try:
        with pytest.raises(ModelError, match="none is known\n.*--base-gguf"):
            export(task, tmp_path / "out", Settings(formats=("gguf",)))
        made = export(task, tmp_path / "some", Settings(bar=Bar(examples=2)))
        assert [each.format for each in made.exports] == ["adapter", "merged"]
        assert "none is known" in made.left_out["gguf"]
        assert made.manifest["left_out"] == made.left_out
    finally:
        away.rename(beside)


def test_formats_and_settings_are_checked_before_anything_is_made(task: Task, tmp_path: Path) -> None:
    for settings, told in (
        (Settings(formats=("onnx",)), "'onnx' is no format"),
        (Settings(formats=()), "no format is named"),
        (Settings(quantize="q2_k"), "'q2_k' is not written here"),
        (Settings(bar=Bar(examples=1)), "two examples"),
        (Settings(bar=Bar(margin=0.0)), "between 0 and 1"),
        (Settings(base_gguf=tmp_path / "none.gguf"), "there is no such file"),
    ):
        with pytest.raises((SpecError, ModelError), match=told):
            export(task, tmp_path / "out", settings)
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_has_changed_since_needs_a_run(task: Task) -> None:
    with pytest.raises(StoreError, match="as it stands now"):
        export(replace(task, fingerprint="another"))


def test_the_store_finds_a_fit_by_its_predictor(task: Task) -> None:
    store = Store(task.folder / ".luthier")
    key = store.fit_of(source.find(task).fingerprint)
    assert key is not None
    assert store.predictor_folder(key).is_dir()
    assert store.fit_of("nothing") is None
    store.close()


def test_the_command_prints_what_came_out(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml, out = str(task.folder / "luthier.toml"), tmp_path / "out"
    few = ("--formats", "adapter", "--examples", "32", "--margin", "0.1")
    assert call("export", toml, *few, "--out", str(out)) == 0
    told = capsys.readouterr()
    assert "adapter: PASSED" in told.out
    assert "32 examples" in told.out
    assert str(out / "adapter") in told.out
    assert call("export", toml, *few, "--out", str(out)) == 2
    assert "it is there already" in capsys.readouterr().err
    poor = tmp_path / "poor"
    assert call("export", toml, "--formats", "adapter", "--out", str(poor), "--examples", "4", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["passed"], found["exports"][0]["release"]) == (1, False, False)
    assert (poor / "rejected" / "adapter" / "adapter_model.safetensors").is_file()
