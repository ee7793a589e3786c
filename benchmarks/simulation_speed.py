"""How fast a whole fleet of 100 devices lives in the simulator on one core, against the clock on the wall.

At the intervals that a fleet has by default: windows and heartbeats of five minutes, a pass of the loop every
five seconds where something is new. Real are the controller's and the agent's code; see docs/simulation.md.
"""

import logging

from figure import at_least, publish

from simulation.speed import measure

DEVICES = 100
LEAST = 1000.0


def main() -> None:
    """Measure, and print the figure."""
    logging.disable(logging.CRITICAL)
    speed = measure(DEVICES)
    if speed.outcome.broken:
        raise SystemExit(speed.outcome.broken[0])
    name = f"whole fleet of {DEVICES} devices, simulated on one core"
    publish(at_least(name, ours=speed.ratio, peer=("real time", 1.0), unit="s/s", least=LEAST))


if __name__ == "__main__":
    main()
