"""A placement that meets a goal, with the fewest places left in FP16 that the search finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from swin_deploy.errors import ConfigError
from swin_deploy.graph.int8.sensitivity import Effect
from swin_deploy.sensitivity.cost import cost_placement, why_not_compiled
from swin_deploy.sensitivity.figures import describe_effect
from swin_deploy.sensitivity.measure import Laboratory
from swin_deploy.sensitivity.report import Cost, Costs, Mixed
from swin_deploy.sensitivity.request import SensitivityRequest
from swin_deploy.sensitivity.search import find_fewest


def search_mixed(
    request: SensitivityRequest,
    lab: Laboratory,
    ranking: list[str],
    images: int,
    right: int | None,
    note: Callable[[str], None],
) -> Mixed | None:
    """Find the fewest places to leave in FP16 for what the request asks; None if it asks nothing.

    Args:
        request: Its goal: a drop of top-1, or a floor in dB.
        lab: Measures placements.
        ranking: All places, the most sensitive first.
        images: How many are measured on.
        right: Of how many FP32 names the class rightly; None without labels.
        note: Hears what the user has to know.
    """
    if request.max_drop is None and request.min_sqnr_db is None:
        return None
    if request.max_drop is not None and 0 < request.max_drop < 100 / images:
        note(
            f"one of {images} images is {100 / images:.2g} points: --max-drop "
            f"{request.max_drop:g} is finer than that, as good as 0"
        )
    tried: set[frozenset[str]] = set()

    def passes(kept: tuple[str, ...]) -> bool:
        tried.add(frozenset(lab.quantised_without(kept)))
        return _good_enough(request, lab.without(kept), images, right)

    keep = find_fewest(ranking, passes)
    quantised = lab.quantised_without(keep)
    left = [name for name in lab.places if name not in quantised]
    if keep and not quantised:
        note("no placement with INT8 meets the goal: stay on FP16")
    elif keep:
        note("the places were picked on these images: check the result on others")
    cost = _costs(lab, keep, bool(quantised), note)
    return Mixed(
        max_drop_points=request.max_drop,
        min_sqnr_db=request.min_sqnr_db,
        keep=tuple(keep),
        left=tuple(left),
        quantised=len(quantised),
        placements_tried=len(tried),
        cost=cost,
        **asdict(describe_effect(lab.without(keep), images, right)),
    )


def _good_enough(
    request: SensitivityRequest, effect: Effect, images: int, right: int | None
) -> bool:
    if request.min_sqnr_db is not None:
        return effect.sqnr_db >= request.min_sqnr_db
    if request.max_drop is None or right is None or effect.right is None:
        raise ConfigError("a drop of top-1 is measured with labels", "--labelled")
    return 100 * (right - effect.right) <= request.max_drop * images * (1 + 1e-12)


def _costs(
    lab: Laboratory, keep: list[str], any_quantised: bool, note: Callable[[str], None]
) -> Costs | None:
    """Of the engines with all places in INT8 and with some left out; None if not compiled."""
    if (reason := why_not_compiled(lab.recipe)) is not None:
        note(f"kernels and bytes were not counted: {reason}")
        return None
    return Costs(all=_cost(lab, []), mixed=_cost(lab, keep) if keep and any_quantised else None)


def _cost(lab: Laboratory, keep: list[str]) -> Cost:
    subject = lab.measured.subject

    def measure() -> Cost:
        return cost_placement(
            subject.graph,
            lab.thresholds(),
            lab.recipe,
            subject.batch.high,
            keep,
            subject.fp32_nodes,
            lab.progress,
        )

    return lab.journal.get(" ".join(["cost", *keep]), Cost, measure)
