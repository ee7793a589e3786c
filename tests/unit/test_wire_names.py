"""Names on the wire end where they seem to end."""

import msgspec
import pytest

from muster_models.manifest import FileEntry, ModelName, Sha256, VersionName
from muster_models.wire import DeviceId


@pytest.mark.parametrize(
    ("kind", "value"),
    [(ModelName, "digits"), (VersionName, "1.0.0"), (Sha256, "0" * 64), (DeviceId, "press-1")],
)
def test_a_name_with_a_line_break_behind_it_is_refused(kind: type[str], value: str) -> None:
    assert msgspec.convert(value, kind) == value
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value + "\n", kind)


def test_a_file_name_with_a_line_break_behind_it_is_refused() -> None:
    entry = {"name": "model.onnx", "role": "model", "sha256": "0" * 64, "length": 1}

    assert msgspec.convert(entry, FileEntry).name == "model.onnx"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(entry | {"name": "model.onnx\n"}, FileEntry)
