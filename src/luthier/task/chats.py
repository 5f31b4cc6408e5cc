"""Chats: a list of {role, content} from a data file, checked turn by turn.

From `[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]` to the chat ("user: Hi",) and,
where the file has no column of references, the right answer "Hello!".
"""

from __future__ import annotations

import json
from typing import Any

from luthier.errors import DataError
from luthier.types import Message

ROLES = ("system", "user", "assistant")
_FIX = 'write a list of turns: [{"role": "user", "content": "..."}]'


def chat_of(text: str, line: int, name: str) -> tuple[Message, ...]:
    """The chat of a row that has its right answer elsewhere: its last turn is the user's. Raises DataError."""
    chat = _turns(text, line, name)
    if chat[-1].role != "user":
        raise _error(
            f"the last turn is the {chat[-1].role}'s, and [data] reference names another right answer",
            line,
            name,
            "end each chat with the user's turn, or remove [data] reference: then the last turn is the right answer",
        )
    return chat


def with_answer(text: str, line: int, name: str) -> tuple[tuple[Message, ...], str]:
    """The chat of a row up to the user's last turn, and the assistant's turn that ends it. Raises DataError."""
    chat = _turns(text, line, name)
    if len(chat) < 2 or chat[-1].role != "assistant":
        raise _error(
            f"the last turn is the {chat[-1].role}'s, and there is no [data] reference",
            line,
            name,
            "end each chat with the assistant's right answer, or name the column that has it: [data] reference",
        )
    if chat[-2].role != "user":
        raise _error(f"the last turn before the answer is the {chat[-2].role}'s", line, name, "end it with the user's")
    return chat[:-1], chat[-1].content.strip()


def _turns(text: str, line: int, name: str) -> tuple[Message, ...]:
    try:
        found = json.loads(text)
    except ValueError:
        raise _error("the chat is no list of turns", line, name, _FIX) from None
    if not isinstance(found, list) or not found:
        raise _error("the chat is no list of turns" if found else "the chat has no turn", line, name, _FIX)
    turns = tuple(_turn(each, at, line, name) for at, each in enumerate(found, start=1))
    late = next((at for at, turn in enumerate(turns, start=1) if turn.role == "system" and at > 1), None)
    if late is not None:
        raise _error(f"turn {late} is the system's, which can only come first", line, name, "move it to the beginning")
    return turns


def _turn(value: Any, at: int, line: int, name: str) -> Message:
    if not isinstance(value, dict):
        raise _error(f"turn {at} is no object with role and content", line, name, _FIX)
    strange = sorted(key for key, held in value.items() if key not in ("role", "content") and held is not None)
    missing = [key for key in ("role", "content") if not isinstance(value.get(key), str)]
    if missing:
        raise _error(f"turn {at} has no text as its {missing[0]}", line, name, _FIX)
    if strange:
        raise _error(
            f"turn {at} has the key '{strange[0]}', which luthier does not read",
            line,
            name,
            "leave only role and content in each turn (tools and images are not covered)",
        )
    if value["role"] not in ROLES:
        raise _error(f"turn {at} has the role '{value['role']}'", line, name, f"the roles are {', '.join(ROLES)}")
    if not value["content"].strip():
        raise _error(f"turn {at} is empty", line, name, "fill it in, or leave the row out")
    return Message(value["role"], value["content"])


def _error(what: str, line: int, name: str, fix: str) -> DataError:
    return DataError(what, where=f"{name}, line {line}", fix=fix)


def words_of(chat: tuple[Message, ...]) -> str:
    """What was said in a chat, as one text without the system's turn: by this, two chats are alike."""
    said = [turn.content for turn in chat if turn.role != "system"]
    return "\n".join(said)
