"""Outlook: what became of the data and what its test split can decide, said before anything is spent."""

from __future__ import annotations

from luthier import stats
from luthier.errors import PowerError
from luthier.evaluate.scorers import Mean, metric
from luthier.evaluate.slices import share_of_alpha
from luthier.task.slices import name_of
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


def slice_lines(task: Task, alpha: float) -> list[str]:
    """What the test split can show about the targets of slices, a line each, where a candidate may spend `alpha`.

    Errors: PowerError where there are too few examples of a slice to ever show it.
    """
    spec = task.spec
    if spec.target.about == "split":  # its slices are known for certain once they are scored
        return []
    share, lines = share_of_alpha(spec, alpha), []
    for each in spec.slices.targets:
        name, size = name_of(each.slice), each.slice.groups
        needed = stats.fewest_to_prove(each.at_least, share)
        if needed is None or needed > size:
            takes = "no number of them can" if needed is None else f"that takes {needed:,}"
            raise PowerError(
                f"{size:,} test examples of the slice {name} cannot show {each.at_least:g} at "
                f"{spec.slices.confidence:.0%} confidence, even if every answer is right: {takes}",
                where="luthier.toml, [[slices.target]]",
                fix="give the test split more examples of it, lower its at_least, race fewer rungs, name fewer "
                "targets, or remove this one: the report compares the slice with the rest anyway",
            )
        low, high = stats.smallest_detectable_effect(each.at_least, share, size, POWER)
        shows = f"show it from a true {high:.1%} on" if high is not None else "hardly ever show it"
        misses = f", a miss up to {low:.1%}" if low is not None else ", and no miss"
        lines.append(f"slice {name}, at least {each.at_least:.1%}: {size:,} test examples {shows}{misses}")
    return lines
