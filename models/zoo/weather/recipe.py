"""Makes the source folders of ``weather`` beside this file: ``python models/zoo/weather/recipe.py``. Seconds.

It needs TensorFlow (the dependency group ``recipe``), which running and testing the models does not.

1.0.0 is linear, 1.1.0 a small network that predicts how the temperature changes, and 1.2.0 the same network
with its weights rounded to two bits. It misses the threshold.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from muster_models.publish import read_source
from muster_models.publish.evaluate import evaluate, measure
from muster_models.publish.source import digest_arrays
from muster_models.runtime import load
from zoo.weather import data

FOLDER = Path(__file__).parent
SEED = 7
HIDDEN = (24, 12)
EPOCHS = 60
BATCH = 128
STEP = 0.8  # of a two-bit weight, in standard deviations of its layer
MAE = 0.56  # °C; to say "as now" reaches 0.65
Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One layer; ``weights`` has the shape (inputs, outputs)."""

    weights: Numbers
    bias: Numbers


class Forecast(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Temperature now, plus what the layers say about readings that are scaled to mean 0 and deviation 1."""

    def __init__(self, layers: Sequence[Layer], mean: Numbers, scale: Numbers) -> None:
        super().__init__()
        self._layers = layers
        self._mean = mean
        self._scale = scale

    @tf.function(input_signature=[tf.TensorSpec([None, len(data.READINGS)], tf.float32, name="readings")])  # type: ignore[untyped-decorator]  # as above
    def predict(self, readings: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the temperature in one hour, in °C, as ``temperature``."""
        hidden = (readings - self._mean) / self._scale
        for layer in self._layers[:-1]:
            hidden = tf.nn.relu(tf.matmul(hidden, layer.weights) + layer.bias)
        change = tf.matmul(hidden, self._layers[-1].weights) + self._layers[-1].bias
        return {"temperature": readings[:, :1] + change}


def main() -> None:
    """Train, write three source folders, and print what each version reaches."""
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    readings, later = data.rows("train")["readings"], data.answers("train")
    mean, scale = readings.mean(axis=0), readings.std(axis=0)
    change = (later - readings[:, 0]).reshape(-1, 1)
    inputs = (readings - mean) / scale
    line = _fit_line(inputs, change)
    layers = _train(inputs, change)
    make("1.0.0", "Linear in the current readings.", Forecast([line], mean, scale))
    make("1.1.0", f"A network with {HIDDEN[0]} and {HIDDEN[1]} hidden units.", Forecast(layers, mean, scale))
    coarse = Forecast([_coarse(layer) for layer in layers], mean, scale)
    make("1.2.0", "The network of 1.1.0 with its weights rounded to two bits.", coarse)


def make(version: str, description: str, forecast: Forecast) -> None:
    """Write the source folder of one version and print its figures."""
    folder = FOLDER / version
    folder.mkdir(exist_ok=True)
    (folder / "model.tflite").write_bytes(_convert(forecast))
    np.savez_compressed(
        folder / "evaluation.npz",
        allow_pickle=False,
        **data.rows("evaluation"),
        targets=data.answers("evaluation"),
    )
    train: dict[str, NDArray[np.generic]] = {**data.rows("train"), "answers": data.answers("train")}
    digest, rows = digest_arrays(train), len(train["readings"])
    (folder / "model.toml").write_text(_declaration(version, description, digest, rows))
    source = read_source(folder)
    runtime = load("tflite", source.model_path)
    evaluation = evaluate(runtime, source)
    figures = measure(source.declared.prediction, evaluation.outputs, source.answers)
    size = source.model_path.stat().st_size
    print(f"weather@{version}", figures, f"{size} bytes", f"{evaluation.latency_ms * 1000:.0f} us a row")


def _fit_line(inputs: Numbers, change: Numbers) -> Layer:
    extended = np.column_stack([inputs, np.ones(len(inputs))]).astype(np.float64)
    solution, *_ = np.linalg.lstsq(extended, change.astype(np.float64), rcond=None)
    return Layer(solution[:-1].astype(np.float32), solution[-1].astype(np.float32))


def _train(inputs: Numbers, change: Numbers) -> list[Layer]:
    units = [tf.keras.layers.Dense(count, activation="relu") for count in HIDDEN]
    network = tf.keras.Sequential([tf.keras.Input([inputs.shape[1]]), *units, tf.keras.layers.Dense(1)])
    rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * len(inputs) // BATCH)
    network.compile(tf.keras.optimizers.Adam(rate), loss=tf.keras.losses.Huber(1.0))
    network.fit(inputs, change, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    held = network.get_weights()
    return [Layer(weights, bias) for weights, bias in zip(held[::2], held[1::2], strict=True)]


def _coarse(layer: Layer) -> Layer:
    """Round weights to the middles of four steps."""
    step = float(layer.weights.std()) * STEP
    codes = np.clip(np.floor(layer.weights / step), -2, 1)
    return Layer(((codes + 0.5) * step).astype(np.float32), layer.bias)


def _convert(forecast: Forecast) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(forecast, folder, signatures=forecast.predict)
        model: bytes = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return model


def _declaration(version: str, description: str, digest: str, rows: int) -> str:
    units = {
        "temperature": "°C", "dew_point": "°C", "humidity": "%", "wind_speed": "m/s", "pressure": "hPa",
        "visibility": "km",
    }  # fmt: skip
    # The hour is on the clock, not on an instrument: it cannot drift by itself.
    features = "".join(
        f'\n[[features]]\nname = "{name}"\ninput = "readings"\n'
        f'column = {data.READINGS.index(name)}\nunit = "{unit}"\n'
        for name, unit in units.items()
    )
    return f"""# Written by recipe.py.
model = "weather"
version = "{version}"
description = "{description} Reads a weather station and predicts the temperature in one hour."
runtime = "tflite"
file = "model.tflite"

[prediction]
type = "value"
output = "temperature"
unit = "°C"

[budget]
memory_bytes = 134217728
load_seconds = 20.0
latency_ms = 50.0
output_bytes = 1048576

[[thresholds]]
metric = "mae"
maximum = {MAE}

[[datasets]]
name = "weather train"
role = "train"
source = "{data.SOURCE}"
licence = "{data.LICENCE}"
digest = "{digest}"
rows = {rows}

[[datasets]]
name = "weather evaluation"
role = "evaluation"
source = "{data.SOURCE}"
licence = "{data.LICENCE}"
{features}"""


if __name__ == "__main__":
    main()
