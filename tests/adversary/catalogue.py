"""Every scenario, in the order of the document."""

from adversary import (
    clocks,
    disks,
    enrolling,
    freshness,
    glances,
    installing,
    live,
    mirrors,
    mixing,
    orders,
    replacing,
    reporting,
    thieves,
    transfers,
    withdrawals,
    wrong,
)

SCENARIOS = (
    *installing.SCENARIOS,
    *wrong.SCENARIOS,
    *mixing.SCENARIOS,
    *mirrors.SCENARIOS,
    *transfers.SCENARIOS,
    *freshness.SCENARIOS,
    *glances.SCENARIOS,
    *clocks.SCENARIOS,
    *thieves.SCENARIOS,
    *replacing.SCENARIOS,
    *orders.SCENARIOS,
    *withdrawals.SCENARIOS,
    *disks.SCENARIOS,
    *reporting.SCENARIOS,
    *enrolling.SCENARIOS,
    *live.SCENARIOS,
)
