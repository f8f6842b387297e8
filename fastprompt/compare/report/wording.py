"""Numbers and sentences of the comparison report: for readers who see the page, and for those who hear it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_METRIC_NAMES = {"mrr": "MRR", "p_at_1": "P@1", "p_at_10": "P@10"}


def listing(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def counted(number: int, noun: str) -> str:
    return f"{number:,}\u00a0{noun}" if number == 1 else f"{number:,}\u00a0{noun}s"


def few_or_count(words: Sequence[str], noun: str) -> str:
    """The words themselves where they are three or fewer, else how many there are."""
    return listing(words) if len(words) <= 3 else counted(len(words), noun)


def metric_name(name: str) -> str:
    words = name.replace("_", " ")
    return _METRIC_NAMES.get(name, words[:1].upper() + words[1:])


def decimals(values: Iterable[float]) -> int:
    """How many decimals a column of numbers needs so that its smallest has about three figures."""
    smallest = min((abs(value) for value in values if value), default=0.0)
    return 0 if smallest >= 100 else 1 if smallest >= 10 else 2


def power_of_ten(exponent: int) -> str:
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def scientific(value: float) -> str:
    """ "1.2 × 10⁻⁶", with spaces that do not break; "0" for an exact zero."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    power = power_of_ten(int(exponent))
    return power if mantissa == "1.0" else f"{mantissa}\u202f×\u202f{power}"


def breaks(difference: float, budget: float | None) -> bool:
    return budget is not None and not difference <= budget  # not a number breaks


# -- what a report holds ---------------------------------------------------------------------------------------------


def backends(report: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(run["backend"] for run in report["runs"]))


def methods(report: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(run["method"] for run in report["runs"]))


def seeds(report: dict[str, Any]) -> list[int]:
    return list(dict.fromkeys(run["seed"] for run in report["runs"]))


def finished(run: dict[str, Any]) -> bool:
    return run["status"] == "finished"


def means(report: dict[str, Any], quantity: str, method: str) -> dict[str, float]:
    """A quantity's mean over seeds by framework, of those that finished a run."""
    return {
        entry["backend"]: entry["values"][quantity]["mean"]
        for entry in report["summary"]
        if entry["method"] == method and quantity in entry["values"]
    }


# -- the sentence at the top -----------------------------------------------------------------------------------------


def title(report: dict[str, Any]) -> str:
    names = backends(report)
    what = f"Comparison of {listing(names)}" if len(names) > 1 else f"Measurement of {names[0]}"
    return f"{what} on {report['task']}"


def summary(report: dict[str, Any]) -> str:
    """What was compared, whether the frameworks agree, and who failed, in one sentence."""
    names, runs = backends(report), report["runs"]
    numbers = seeds(report)
    seeded = f"seed\u00a0{numbers[0]}" if len(numbers) == 1 else few_or_count([str(n) for n in numbers], "seed")
    seeded = f"seeds {seeded}" if 2 <= len(numbers) <= 3 else seeded
    verb = "were compared" if len(names) > 1 else "was measured"
    what = f"{listing(names)} {verb} on {report['task']} with {few_or_count(methods(report), 'method')} ({seeded})"
    failures = [
        f"{name} failed in {failed} of its {counted(len(own), 'run')}"
        for name in names
        if (own := [run for run in runs if run["backend"] == name])
        and (failed := sum(not finished(run) for run in own))
    ]
    if any(finished(run) for run in runs):
        losses, ends = _loss_agreement(report), listing(failures) if failures else "every run finished"
    else:
        losses, ends = [], "no run finished"
    return "; ".join([what, *losses, *_parity_agreement(report), ends]) + "."


def _loss_agreement(report: dict[str, Any]) -> list[str]:
    base, budget, differences = report["base"], report["loss_budget"], report["loss_differences"]
    if len(backends(report)) == 1:
        return ["there is no second framework to compare it with"]
    if not differences:
        return [f"no other framework finished a run that {base} finished too, so no losses could be compared"]
    if budget is None:
        return ["dropout was on, so their losses are not expected to agree step by step"]
    largest = {name: _worst(differences, name)["largest"] for name in _in_order(differences)}
    broken = {name: value for name, value in largest.items() if breaks(value, budget)}
    agreeing = {name: value for name, value in largest.items() if name not in broken}
    clauses = []
    if agreeing:
        worst = scientific(max(agreeing.values()))
        clauses.append(f"the losses of {listing(agreeing)} agree with {base}'s at every logged step to {worst}")
    if broken:
        worst = scientific(max(broken.values(), key=_rank))
        clauses.append(f"the losses of {listing(broken)} depart from {base}'s by up to {worst}")
    clauses[-1] += f" (budget\u00a0{scientific(budget)})"
    return clauses


def _parity_agreement(report: dict[str, Any]) -> list[str]:
    if not report["parity"]:
        return []
    broken = [entry["backend"] for parity in report["parity"] for entry in parity["broken"]]
    failed = list(dict.fromkeys(name for parity in report["parity"] for name in parity["failed"]))
    clauses = [
        f"{name} breaks {counted(broken.count(name), 'parity budget')}" for name in backends(report) if name in broken
    ]
    if failed:
        clauses.append(f"parity could not be measured for {listing(failed)}")
    return clauses or ["every parity budget holds"]


def _in_order(differences: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(entry["backend"] for entry in differences))


def _rank(difference: float) -> float:
    return math.inf if math.isnan(difference) else difference


def _worst(differences: list[dict[str, Any]], backend: str) -> dict[str, Any]:
    own = [entry for entry in differences if entry["backend"] == backend]
    return max(own, key=lambda entry: _rank(entry["largest"]))


# -- what each figure shows, for those who do not see it ---------------------------------------------------------------


def describe_losses(report: dict[str, Any], method: str) -> str:
    """The course of each framework's loss, mean over seeds."""
    found = []
    for name in backends(report):
        curves = [run["history"] for run in report["runs"] if run["backend"] == name and run["method"] == method]
        curves = [curve for curve in curves if curve]
        if not curves:
            found.append(f"{name} has no curve")
            continue
        first, last = (sum(curve[at]["loss"] for curve in curves) / len(curves) for at in (0, -1))
        if max(len(curve) for curve in curves) == 1:
            found.append(f"{name} {first:.3f} at its only logged step")
        else:
            found.append(f"{name} from {first:.3f} to {last:.3f}")
    return f"Training loss of {method}: {'; '.join(found)}."


def describe_differences(report: dict[str, Any], method: str) -> str:
    """How far each framework's loss goes from the base's, and whether the budget holds."""
    budget = report["loss_budget"]
    own = [entry for entry in report["loss_differences"] if entry["method"] == method]
    found = []
    for name in _in_order(own):
        worst = _worst(own, name)
        verdict = "" if budget is None else ", over budget" if breaks(worst["largest"], budget) else ", within budget"
        where = f"seed {worst['seed']}, step {worst['at_step']:,}"
        found.append(f"{name} at most {scientific(worst['largest'])} ({where}){verdict}")
    limit = "; no budget, dropout was on" if budget is None else f"; the budget is {scientific(budget)}"
    return f"Relative difference of the loss of {method} to {report['base']}'s: {'; '.join(found)}{limit}."


def describe_bars(report: dict[str, Any], quantity: str) -> str:
    """Which framework is best with which method, and every bar's value."""
    words = {
        "samples_per_second": (max, "Fastest in training", "samples per second"),
        "peak_memory_mb": (min, "Least peak memory", "MB"),
    }
    choose, lead, unit = words[quantity]
    by_method = {name: found for name in methods(report) if (found := means(report, quantity, name))}
    winners = {name: choose(found, key=found.get) for name, found in by_method.items()}
    if len(set(winners.values())) == 1:
        won = f"{next(iter(winners.values()))} with {'every method' if len(winners) > 1 else next(iter(winners))}"
    else:
        won = "; ".join(
            f"{backend} with {few_or_count([name for name in winners if winners[name] == backend], 'method')}"
            for backend in dict.fromkeys(winners.values())
        )
    values = "; ".join(
        f"{name}: {listing(f'{backend} {value:,.{decimals(found.values())}f}' for backend, value in found.items())}"
        for name, found in by_method.items()
    )
    return f"{lead}: {won}. Means over seeds in {unit}: {values}."
