"""What our methods should reach against the floor and against their peers, and whether they did in one run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .libraries import FLOOR, OURS
from .networks import NETWORKS
from .rows import Row

POINTS = 0.005
"""Two robust accuracies are the same within half a point: a sample or two of a few hundred."""


@dataclass(frozen=True)
class Verdict:
    """Whether a target was reached on a network.

    Attributes:
        target: what should be reached, in words.
        network: where; "all" for what is said of several networks together.
        ratio: what was measured; None where what it needs was not.
        bound: the largest ratio that reaches it.
        reached: whether it did, the condition beside the ratio included; None where it could not be judged.
        words: what the ratio was taken of.
    """

    target: str
    network: str
    ratio: float | None
    bound: float
    reached: bool | None
    words: str

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Target:
    """Something to reach.

    Attributes:
        method: of ours; a verdict is due on every network where it was measured.
        words: the target in words.
        bound: of the ratio.
        judged: told our row, all rows of its network and the bound, gives ratio, whether it is reached, and words; or,
            as a text alone, what is missing.
        defended: whether it is about adversarially trained networks alone.
        networks: on how many it must be reached, and on no measured one missed.
    """

    method: str
    words: str
    bound: float
    judged: "Callable[[Row, Sequence[Row], float], tuple[float, bool, str] | str]"
    defended: bool = False
    networks: int = 1


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """All that can be said of the targets from the rows of one run."""
    return [verdict for target in TARGETS for verdict in _of(target, rows)]


def _of(target: Target, rows: Sequence[Row]) -> list[Verdict]:
    made = []
    for ours in rows:
        if (ours.library, ours.method) != (OURS, target.method):
            continue
        if target.defended and not NETWORKS[ours.network].defended:
            continue
        found = target.judged(ours, [row for row in rows if row.network == ours.network], target.bound)
        ratio, reached, words = (None, None, found) if isinstance(found, str) else found
        made.append(Verdict(target.words, ours.network, ratio, target.bound, reached, words))
    if made and target.networks > 1:
        made.append(_together(target, made))
    return made


def _together(target: Target, made: Sequence[Verdict]) -> Verdict:
    """The verdict over all networks: the worst ratio, and whether enough of them were measured and all reached it."""
    done = [one for one in made if one.ratio is not None]
    reached = None
    if len(done) >= target.networks or not all(one.reached for one in done):
        reached = all(one.reached for one in done)
    words = f"reached on {sum(bool(one.reached) for one in made)} of {len(made)} networks, wanted on {target.networks}"
    worst = max((one.ratio for one in made if one.ratio is not None), default=None)
    return Verdict(target.words, "all", worst, target.bound, reached, words)


def _peers(rows: Sequence[Row], *methods: str) -> list[Row]:
    return [row for row in rows if row.library not in (FLOOR, OURS) and row.method in methods]


def _over(ours: Row, peer: Row) -> float:
    """Our time over a peer's, each in passes that were timed beside it."""
    return ours.cost / peer.cost


def _floor(ours: Row, rows: Sequence[Row], bound: float) -> tuple[float, bool, str]:
    return ours.floor_ratio, ours.floor_ratio <= bound, "over the floor of the nominal passes"


def _as_strong(ours: Row, rows: Sequence[Row], bound: float) -> tuple[float, bool, str] | str:
    """Against the fastest of the peers that leave no more samples robust than ours."""
    peers = [row for row in _peers(rows, ours.method) if row.robust_accuracy <= ours.robust_accuracy + POINTS]
    if not peers:
        return "no peer was measured that is as strong"
    fastest = min(peers, key=lambda row: row.cost)
    same = ours.robust_accuracy <= fastest.robust_accuracy + POINTS
    words = f"over {fastest.library}; robust accuracy {ours.robust_accuracy:.1%} and {fastest.robust_accuracy:.1%}"
    return _over(ours, fastest), same and _over(ours, fastest) <= bound, words


def _as_near(ours: Row, rows: Sequence[Row], bound: float) -> tuple[float, bool, str] | str:
    """Against the fastest of the peers that fool as many samples as ours."""
    peers = [row for row in _peers(rows, ours.method) if _fools_as_many(row, ours)]
    if not peers:
        return "no peer was measured that fools as many samples"
    fastest = min(peers, key=lambda row: row.cost)
    words = f"over {fastest.library}; mean distance {ours.distance:.4f} and {fastest.distance:.4f}"
    return _over(ours, fastest), _no_larger(ours, fastest) and _over(ours, fastest) <= bound, words


def _nearest(ours: Row, rows: Sequence[Row], bound: float) -> tuple[float, bool, str] | str:
    """The best of our minimum-norm l2 methods in no more time than any peer's DDN, against the best peer's."""
    methods = ("carlini_wagner", "ddn", "fmn", "alma", "alma_100", "deepfool", "boundary_projection")
    quick = _peers(rows, "ddn")
    peers = [row for row in _peers(rows, *methods) if _fools_as_many(row, ours)]
    if not quick or not peers:
        return "no peer's DDN was measured"
    fastest, best = min(quick, key=lambda row: row.cost), min(peers, key=lambda row: row.distance)
    mine = [row for row in rows if row.library == OURS and row.method in methods and _fools_as_many(row, best)]
    allowed = [row for row in mine if _over(row, fastest) <= bound]
    chosen = min(allowed or mine or [ours], key=lambda row: row.distance)
    words = (
        f"our {chosen.method} over {fastest.library}'s DDN; mean distance {chosen.distance:.4f} and "
        f"{best.distance:.4f}, the best peer's ({best.library} {best.method})"
    )
    return _over(chosen, fastest), chosen in allowed and _no_larger(chosen, best), words


def _fast(ours: Row, rows: Sequence[Row], bound: float) -> tuple[float, bool, str] | str:
    """Against the reference order: pyautoattack's, or else our own standard version."""
    order = [row for row in rows if row.method == "autoattack" and row.library in ("pyautoattack", OURS)]
    if not order:
        return "the reference order was not measured"
    reference = order[-1]
    above = ours.robust_accuracy - reference.robust_accuracy
    words = f"over {reference.library}'s standard; robust accuracy {100 * above:+.2f} points"
    return _over(ours, reference), above <= 0.002 + 1e-9 and _over(ours, reference) <= bound, words


def _against_art(ours: Row, rows: Sequence[Row], bound: float) -> tuple[float, bool, str] | str:
    art = [row for row in _peers(rows, ours.method) if row.library == "art"]
    if not art:
        return "art was not measured"
    results = [f"{100 * row.robust_accuracy:.1f} %, distance {row.distance:.3f}" for row in (ours, art[0])]
    return _over(ours, art[0]), _over(ours, art[0]) <= bound, f"over art; robust {results[0]} and {results[1]}"


def _fools_as_many(row: Row, other: Row) -> bool:
    return row.robust_accuracy <= other.robust_accuracy + POINTS


def _no_larger(ours: Row, peer: Row) -> bool:
    """Whether a mean distance is no larger, as far as four digits tell."""
    return ours.distance <= peer.distance * (1 + 5e-5)


TARGETS = (
    Target("pgd", "PGD-40: time over the floor of its nominal passes", 1.10, _floor, defended=True),
    Target("auto_pgd", "Auto-PGD: time over the fastest peer's at the same robust accuracy", 0.8, _as_strong, True),
    Target("carlini_wagner", "Carlini-Wagner: time over the fastest peer's, mean norm no larger", 0.75, _as_near, True),
    Target("ddn", "Minimum-norm l2: time over the fastest peer's DDN, mean no larger than any's", 1.0, _nearest, True),
    Target("autoattack_fast", "AutoAttack fast: time over the reference order's, +0.2 points", 0.25, _fast, networks=4),
    Target("ead", "EAD: time over art's", 1 / 3, _against_art, defended=True),
    Target("caa", "CAA: time over art's", 1 / 3, _against_art, defended=True),
    Target("hopskipjump", "HopSkipJump: time over art's", 1 / 3, _against_art, defended=True),
)
