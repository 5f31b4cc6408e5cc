"""What is wanted: luthier.toml, the data, and the sealed split.

spec.py, source.py and remote.py say what luthier.toml may hold, kinds.py what each kind of task may say, settings.py
what it comes to, parse.py reads it; data.py and hub.py read a table, records.py checks its rows with answers.py
(labels, texts, records), chats.py, json_record.py and schema.py; duplicates.py merges copies and measures near-copies;
split.py parts what is left; load.py does all this in order.
guess.py, draft.py and written.py propose a luthier.toml for a file; reference.py renders docs/configuration.md.
"""

from __future__ import annotations

from luthier.task.load import load_task

__all__ = ["load_task"]
