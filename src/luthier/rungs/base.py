"""What rungs share: the folder format of predictors, and the prompt of a classification task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from luthier.errors import ModelError, StoreError
from luthier.types import Input, Message, Model, Prediction, Reply, Request, TaskSpec

FORMAT = 1


def write_predictor(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `predictor.json`, byte for byte the same for the same content; `load_predictor` dispatches on the kind."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, "kind": kind, **content}, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "predictor.json").write_text(text + "\n", encoding="utf-8")


def read_predictor(folder: Path) -> dict[str, Any]:
    path = folder / "predictor.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"not a predictor: {error}", where=str(path), fix="delete the folder: it is fitted again"
        ) from error
    if content.get("format") != FORMAT:
        raise StoreError(
            f"predictor format {content.get('format')}, this luthier reads {FORMAT}",
            where=str(path),
            fix="use the version of luthier that wrote it",
        )
    return content


def role_model(models: Mapping[str, Any], role: str, needed_by: str) -> Any:
    if role not in models:
        raise ModelError(f"no model has the role '{role}'", where=needed_by, fix=f'add {role} = "..." under [models]')
    return models[role]


def same_model(models: Mapping[str, Any], role: str, fingerprint: str, folder: Path) -> Any:
    """The model of a role, which must be the one that the saved predictor was fitted with."""
    model = role_model(models, role, str(folder))
    if model.fingerprint != fingerprint:
        raise ModelError(
            f"it was fitted with another {role} than {model.name} ({fingerprint}, not {model.fingerprint})",
            where=str(folder),
            fix="load it with the model it was fitted with, or fit it again",
        )
    return model


def text_of(value: Input) -> str:
    """An input as one string: chat turns are joined by blank lines.

    >>> text_of((Message("user", "hello"), Message("assistant", "hi")))
    'hello\\n\\nhi'
    """
    return value if isinstance(value, str) else "\n\n".join(message.content for message in value)


def instruction(task: TaskSpec) -> str:
    """The system message of a classification prompt: the task's instruction, then each label with its description."""
    lines = [task.instruction.strip(), ""]
    lines += [f"{label.name}: {label.description}" if label.description else label.name for label in task.labels]
    return "\n".join([*lines, "", "Answer with one label and nothing else."])


def conversation(system: str, shots: Sequence[tuple[str, str]], value: Input) -> tuple[Message, ...]:
    """A prompt: the system message, then solved examples as earlier turns, then the input.

    >>> [m.role for m in conversation("Name the type.", [("Who was Galileo ?", "HUM")], "What is a leap year ?")]
    ['system', 'user', 'assistant', 'user']
    """
    turns = [Message("system", system)]
    for text, label in shots:
        turns += [Message("user", text), Message("assistant", label)]
    return (*turns, Message("user", text_of(value)))


def ask_choices(
    model: Model,
    prompts: Sequence[tuple[Message, ...]],
    labels: Sequence[str],
    *,
    scores: Literal["all", "best"] = "all",
    prior: tuple[float, ...] | None = None,
) -> list[Reply]:
    """Score labels for each prompt in one batch: all of them, or what finding the best takes (see `Request`)."""
    return model.complete(
        [Request(messages=prompt, choices=tuple(labels), scores=scores, prior=prior) for prompt in prompts]
    )


def prediction(reply: Reply) -> Prediction:
    """A reply as a prediction: its first text, or its error."""
    output = reply.texts[0] if reply.error is None else None
    return Prediction(output, reply.usage, reply.latency_s, reply.error)
