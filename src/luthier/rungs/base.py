"""What rungs share: the folder format of predictors, the prompt of a task, and how its answer is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.errors import ModelError, StoreError
from luthier.types import Input, Kind, Message, Model, Prediction, Reply, Request, TaskSpec

FORMAT = 1
PLAIN_FRAME = "{input}"
BRIEF = "Answer with one label and nothing else."
FREE_LABEL_TOKENS = 24  # how long a label may be that is written freely
EVERY_KIND: tuple[Kind, ...] = ("classification", "generation", "extraction")
LABELLED: tuple[Kind, ...] = ("classification",)
WRITTEN: tuple[Kind, ...] = ("generation", "extraction")


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


# ---------------------------------------------------------------- prompts


@dataclass(frozen=True, slots=True)
class Writing:
    """How an answer is written where there are no labels: at most `max_tokens`, JSON where there is a `schema`.

    `chat`: whether a chat may be gone on with; a text to classify stays a document, however its label is written.
    """

    max_tokens: int
    schema: Mapping[str, Any] | None = None
    chat: bool = True

    @classmethod
    def of(cls, task: TaskSpec) -> Writing | None:
        """None for a task whose answers are labels: they are chosen, not written."""
        return None if task.labels else cls(task.max_tokens, task.schema)

    @classmethod
    def saved(cls, content: Mapping[str, Any]) -> Writing | None:
        """What `written` put into a predictor's content."""
        return cls(**content["writing"]) if "writing" in content else None

    @property
    def converses(self) -> bool:
        """Whether a chat is gone on with; otherwise it is a document that something is taken from."""
        return self.schema is None and self.chat


def written(writing: Writing | None) -> dict[str, Any]:
    """A predictor's content about writing: nothing for labels, so that their predictors keep their bytes."""
    return {} if writing is None else {"writing": asdict(writing)}


def text_of(value: Input) -> str:
    """An input as one string. A chat of one turn is that turn; of several, each starts with its role.

    >>> text_of((Message("user", "hello"),))
    'hello'
    >>> text_of((Message("user", "hello"), Message("assistant", "hi"), Message("user", "bye")))
    'user: hello\\n\\nassistant: hi\\n\\nuser: bye'
    """
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return value[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in value)


def instruction(task: TaskSpec, hints: Mapping[str, str] | None = None) -> str:
    """The system message of a prompt: the task's instruction, then each label with its description, or the schema.

    `hints` by label are added to the descriptions.
    """
    if task.kind == "generation":
        return task.instruction.strip()
    if task.kind == "extraction":
        schema = json.dumps(task.schema, ensure_ascii=False)
        return f"{task.instruction.strip()}\n\nAnswer with one JSON object of this schema and nothing else:\n{schema}"
    lines = [task.instruction.strip(), ""]
    for label in task.labels:
        meaning = " ".join(part for part in (label.description, (hints or {}).get(label.name, "")) if part)
        lines.append(f"{label.name}: {meaning}" if meaning else label.name)
    return "\n".join([*lines, "", BRIEF])


def rewordings(system: str) -> list[str]:
    """A prompt's system message in other words that mean the same: the rule told otherwise, and told first."""
    if system.endswith(BRIEF):
        body = system.removesuffix(BRIEF).strip()
        return [
            f"{body}\n\nReply with just the label that fits.",
            f"{BRIEF}\n\n{body}",
            f"Your task: {body}\n\nGive exactly one of the labels as your answer.",
        ]
    return [f"Your task: {system}", f"Please do the following. {system}", f"{system}\n\nGive the answer, nothing else."]


def framed(frame: str, value: Input) -> Input:
    """The user's turn: the frame with the input in its place; an input alone stays what it is.

    >>> framed("{input}\\n\\nWhich type is it?", "Who was {Galileo} ?")
    'Who was {Galileo} ?\\n\\nWhich type is it?'
    """
    return value if frame == PLAIN_FRAME else frame.replace(PLAIN_FRAME, text_of(value), 1)


def conversation(
    system: str, shots: Sequence[tuple[str, str]], value: Input, writing: Writing | None = None
) -> tuple[Message, ...]:
    """A prompt: the system message, then solved examples as earlier turns, then the input.

    A chat that is to be gone on with keeps its turns, and its own system message follows the task's.

    >>> [m.role for m in conversation("Name the type.", [("Who was Galileo ?", "HUM")], "What is a leap year ?")]
    ['system', 'user', 'assistant', 'user']
    >>> chat = (Message("system", "Be kind."), Message("user", "Hi"))
    >>> [m.content for m in conversation("Answer.", [], chat, Writing(8))]
    ['Answer.\\n\\nBe kind.', 'Hi']
    """
    last: tuple[Message, ...] = (Message("user", text_of(value)),)
    if writing is not None and writing.converses and not isinstance(value, str):
        own = [message.content for message in value if message.role == "system"]
        system, last = "\n\n".join([system, *own]), tuple(message for message in value if message.role != "system")
    turns = [Message("system", system)]
    for text, answer in shots:
        turns += [Message("user", text), Message("assistant", answer)]
    return (*turns, *last)


def ask(
    model: Model,
    prompts: Sequence[tuple[Message, ...]],
    labels: Sequence[str],
    writing: Writing | None,
    *,
    scores: Literal["all", "best"] = "all",
    prior: tuple[float, ...] | None = None,
) -> list[Reply]:
    """One batch: score the labels for each prompt, all of them or what finding the best takes; or have answers written.

    Of a `prior` and of `scores` see `Request`.
    """
    if writing is None:
        return model.complete(
            [Request(messages=prompt, choices=tuple(labels), scores=scores, prior=prior) for prompt in prompts]
        )
    return model.complete(
        [Request(messages=prompt, schema=writing.schema, max_tokens=writing.max_tokens) for prompt in prompts]
    )


def drawn_twice(
    model: Model, prompts: Sequence[tuple[Message, ...]], labels: Sequence[str], writing: Writing | None
) -> list[Reply]:
    """Two answers to each prompt at temperature 1, held to the labels or the schema as the raced ones are."""
    if writing is None:
        return model.complete([Request(prompt, choices=tuple(labels), temperature=1.0, n=2) for prompt in prompts])
    schema, most = writing.schema, writing.max_tokens
    return model.complete([Request(prompt, schema=schema, max_tokens=most, temperature=1.0, n=2) for prompt in prompts])


def prediction(reply: Reply) -> Prediction:
    """A reply as a prediction: its first text, or its error."""
    output = reply.texts[0] if reply.error is None else None
    return Prediction(output, reply.usage, reply.latency_s, reply.error)
