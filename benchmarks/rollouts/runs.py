"""Runs cases: every method on the very same fleet of each seed, in as many processes as there are cores."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rollouts import muster, staged
from rollouts.cases import Case
from rollouts.drawing import drawn_by
from rollouts.fleet import Fleet
from rollouts.peers import PEERS
from rollouts.results import Result

METHODS = (muster.METHOD, *(peer.name for peer in PEERS))


@dataclass(frozen=True)
class Job:
    """One case, on the fleets of some seeds, under some methods."""

    case: Case
    seeds: tuple[int, ...]
    methods: tuple[str, ...] = METHODS


def one(case: Case, seed: int, methods: Sequence[str] = METHODS) -> list[Result]:
    """Return what each method makes of the rollout of one seed."""
    plan = muster.make_plan(case.document, seed=seed)
    drawn = drawn_by(plan, case.setting.names())
    fleet = Fleet(case.setting, case.plant, tracked=drawn.tracked, seed=seed)
    results = []
    if muster.METHOD in methods:
        results.append(muster.run(plan, fleet, drawn, windows=case.windows, case=case.name, seed=seed))
    return results + [
        staged.run(
            peer,
            fleet,
            drawn,
            stage_windows=case.stage_windows,
            windows=case.windows,
            case=case.name,
            seed=seed,
        )
        for peer in PEERS
        if peer.name in methods
    ]


def run(jobs: Iterable[Job], *, processes: int) -> Iterator[Result]:
    """Yield all results, job by job and seed by seed, whatever runs when."""
    units = [(job, seed) for job in jobs for seed in job.seeds]
    if processes <= 1:
        for job, seed in units:
            yield from one(job.case, seed, job.methods)
        return
    with ProcessPoolExecutor(processes) as pool:
        for results in pool.map(_unit, units, chunksize=4):
            yield from results


def _unit(unit: tuple[Job, int]) -> list[Result]:
    job, seed = unit
    return one(job.case, seed, job.methods)
