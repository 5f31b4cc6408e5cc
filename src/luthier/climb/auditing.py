"""Auditing: what the data shows, before anything is spent on it."""

from __future__ import annotations

from typing import Any

from luthier.audit import VERSION, audit_task
from luthier.climb.workshop import Workshop
from luthier.errors import LuthierError
from luthier.types import Event, digest

EVIDENCE = 5  # of each finding, in the verdict; luthier audit tells the rest


def audited(shop: Workshop) -> dict[str, Any]:
    """The audit of the task as plain values, from the store where the data is the same; it changes nothing learned."""
    task = shop.task
    hashes = [task.findings.get(name) for name in ("data_sha256", "test_sha256")]
    key = digest("audit", VERSION, task.fingerprint, hashes)
    known = shop.store.measurement(key)
    if known is None:
        shop.listen(Event("working", "audit", "looking at the data"))
        try:
            known = audit_task(task).plain(EVIDENCE)
        except LuthierError as error:  # the files changed after they were read
            shop.note(f"the data was not audited: {error.what}")
            return {}
        shop.store.keep_measurement(key, known)
    for finding in known["findings"]:
        if finding["severity"] != "note":
            shop.note(f"audit: {finding['what']}")
    return known
