"""Auditing: an audit as text for a terminal, as a page, and as a short section of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.audit.finding import KINDS
from luthier.report.findings import places
from luthier.report.plain import count
from luthier.report.render import environment

SEVERITIES = {"error": "Stops a verdict", "warning": "Look at this", "note": "Good to know"}
# pieces of evidence: in a terminal, on the page, in the report
IN_TEXT, ON_PAGE, IN_REPORT = 3, 25, 3


def audit_text(audit: Mapping[str, Any]) -> str:
    """An audit (`Audit.plain()`) as lines of text."""
    lines = [headline(audit), ""]
    for finding in audit["findings"]:
        lines.append(f"{SEVERITIES[finding['severity']].upper()}: {finding['what']}")
        lines += [f"    {line}" for line in evidence(finding, IN_TEXT)]
        lines += [f"  effect: {finding['effect']}", f"  do: {finding['advice']}", ""]
    lines += [f"not looked at: {reason}" for reason in audit["skipped"]]
    lines += ["what was read:", *(f"  {what}" for what in audit["reads"])]
    return "\n".join(lines)


def audit_html(audit: Mapping[str, Any]) -> str:
    """An audit as one HTML file: no script, no request, all text from the data escaped."""
    return environment(escape=True).get_template("audit.html").render(
        audit=audit,
        headline=headline(audit),
        severities=SEVERITIES,
        questions=KINDS,
        evidence=lambda finding: evidence(finding, ON_PAGE),
        clear=clear(audit),
    )  # fmt: skip


def section(audit: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the report says about the data: a sentence, and what is worse than a note."""
    if not audit:
        return None
    serious = [finding for finding in audit["findings"] if finding["severity"] != "note"]
    notes = [finding["what"] for finding in audit["findings"] if finding["severity"] == "note"]
    return {
        "headline": headline(audit),
        "findings": [
            {
                "word": SEVERITIES[finding["severity"]],
                "what": finding["what"],
                "effect": finding["effect"],
                "advice": finding["advice"],
                "evidence": evidence(finding, IN_REPORT),
            }
            for finding in serious
        ],
        "notes": notes,
        "skipped": audit["skipped"],
        "reads": audit["reads"],
    }


def headline(audit: Mapping[str, Any]) -> str:
    """
    >>> headline({"rows": 1200, "counts": {"error": 0, "warning": 1, "note": 2}})
    '1,200 rows audited: nothing stops a verdict, 1 thing to look at, 2 notes'
    """
    found = audit["counts"]
    stops = f"{found['error']} {'thing stops' if found['error'] == 1 else 'things stop'} a verdict"
    things = f"{found['warning']} {'thing' if found['warning'] == 1 else 'things'} to look at"
    notes = f"{found['note']} {'note' if found['note'] == 1 else 'notes'}"
    rows = f"{count(audit['rows'])} row{'' if audit['rows'] == 1 else 's'} audited"
    return f"{rows}: {stops if found['error'] else 'nothing stops a verdict'}, {things}, {notes}"


def evidence(finding: Mapping[str, Any], most: int) -> list[str]:
    """The first pieces of a finding's evidence, one line each, and how many there are more.

    >>> evidence({"evidence": [{"places": [3, 17], "text": "a", "note": "b"}] * 2, "evidence_left_out": 0}, 1)
    ['line 3 = 17: a (b)', 'and 1 more']
    """
    shown = [_line(each) for each in finding["evidence"][:most]]
    more = len(finding["evidence"]) + finding["evidence_left_out"] - len(shown)
    return [*shown, *([f"and {count(more)} more"] if more else [])]


def _line(each: Mapping[str, Any]) -> str:
    named: Sequence[Any] = each["places"]
    where = places([named[:6] if len(named) > 1 else named[0]]) if named else ""
    rest = f" and {len(named) - 6} more" if len(named) > 6 else ""
    note = f" ({each['note']})" if each["note"] and each["text"] else each["note"]
    told = f"{each['text']}{note}"
    return f"{where}{rest}: {told}" if where and told else f"{where}{rest}" or told


def clear(audit: Mapping[str, Any]) -> list[str]:
    """The questions to which nothing was found."""
    found = {finding["kind"] for finding in audit["findings"]}
    return [question for kind, question in KINDS.items() if kind not in found]
