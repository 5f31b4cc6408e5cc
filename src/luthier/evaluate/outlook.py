"""Outlook: what became of the data and what its test split can decide, said before anything is spent."""

from __future__ import annotations

from luthier import stats
from luthier.errors import PowerError
from luthier.evaluate.scorers import Mean, metric
from luthier.types import Prediction, Task

POWER = 0.8  # the smallest detectable effect is the one decided with this probability


def units_available(task: Task) -> int:
    """How many independent observations of the target's metric the test split can give: its groups, at most."""
    found = metric(task.spec.target, task.spec.label_names)
    if not isinstance(found, Mean) or not found.known_beforehand:
        return task.test.groups
    relevant = [example for example in task.test.order if found.relevant(example, Prediction(None))]
    return len({example.group or example.id for example in relevant})


def reading_line(task: Task) -> str:
    """What became of the rows of the file, in one line."""
    found = task.findings
    done = [
        f"{found[key]:,} {what}"
        for key, what in (
            ("empty_dropped", "without input or answer left out"),
            ("exact_duplicates_merged", "exact repeats merged"),
            ("conflicts_dropped", "contradicting inputs left out"),
            ("leaked_from_train", "near-copies of test examples taken from train"),
            ("set_aside", "near-copies set aside"),
            ("unused", "asked for by no split"),
        )
        if found.get(key)
    ]
    sizes = f"{len(task.train):,} train, {len(task.dev):,} dev, {len(task.test):,} test"
    return f"{found.get('rows_read', 0):,} rows ({', '.join(done)}): {sizes}" if done else f"examples: {sizes}"


def power_line(task: Task, alpha: float) -> str:
    """What the test split can decide, in one line, before anything is spent. Errors: PowerError where it is nothing."""
    target, size = task.spec.target, units_available(task)
    if not isinstance(metric(target, task.spec.label_names), Mean) or target.about == "split":
        return f"{size:,} test examples; {target.metric_name} is judged on the whole split"
    fewest = stats.fewest_to_prove(target.at_least, alpha)
    what = f"{size:,} test examples about {target.metric_name}"
    if fewest is None or fewest > size:
        takes = "no number of them can" if fewest is None else f"that takes {fewest:,}"
        raise PowerError(
            f"{what} cannot prove {target.at_least:g} at {target.confidence:.0%} confidence, even if every answer is "
            f"right: {takes}",
            where="luthier.toml, [split] test",
            fix="give the test split more examples, lower [target] at_least, race fewer rungs, or, if these examples "
            'are all there will ever be, set [target] about = "split"',
        )
    low, high = stats.smallest_detectable_effect(target.at_least, alpha, size, POWER)
    found = metric(target, task.spec.label_names)
    real = not (isinstance(found, Mean) and found.binary)
    pace = "; scores between 0 and 1 decide no later than these, as a rule" if real else ""
    proves = f"prove MEETS from a true {high:.1%} on" if high is not None else "prove MEETS for no value"
    refutes = f"DOES NOT MEET up to {low:.1%}" if low is not None else "DOES NOT MEET for none"
    return (
        f"{what} {proves}, {refutes} ({POWER:.0%} of the time; target {target.at_least:.1%}{pace}): "
        "what lies between will mostly stay INCONCLUSIVE"
    )
