"""The arrows of docs/architecture.md, held by reading every import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "muster_models": ROOT / "models/muster_models",
    "muster_agent": ROOT / "agent/muster_agent",
    "muster_controller": ROOT / "controller/muster_controller",
}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
# Rooms that decide: values in, values out.
PURE = (
    "controller/muster_controller/domain/",
    "agent/muster_agent/update/state.py",
    "agent/muster_agent/update/steps.py",
    "agent/muster_agent/update/updater.py",
    "agent/muster_agent/update/moves.py",
    "models/muster_models/sketch/",
    "models/muster_models/delta/",
    "models/muster_models/wire.py",
    "models/muster_models/agreement.py",
    "models/muster_models/prediction_id.py",
    "models/muster_models/reliability.py",
    "models/muster_models/topics.py",
    "models/muster_models/manifest.py",
)
# What a pure room may not import: clocks, sockets, paths, threads, processes, databases, chance.
ACTING = """
    asyncio concurrent datetime logging multiprocessing os paho pathlib random requests secrets select shutil
    signal socket sqlalchemy sqlite3 sqlmodel ssl subprocess tempfile threading time urllib3 uuid
"""
IMPURE = frozenset(ACTING.split())
DEVICE_FREE_OF = frozenset(
    {"fastapi", "sqlmodel", "sqlalchemy", "pydantic", "starlette", "uvicorn", "jinja2"}
)


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                pass


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def id_of(path: object) -> str:
    assert isinstance(path, Path)
    return relative(path)


@pytest.mark.parametrize("path", SOURCES, ids=id_of)
def test_arrows_point_inward(path: Path) -> None:
    """models knows neither program; agent and controller do not know each other."""
    own = next(name for name, folder in PACKAGES.items() if path.is_relative_to(folder))
    allowed = {own, "muster_models"}

    roots = {name.partition(".")[0] for name in imports_of(path)}

    assert (roots & PACKAGES.keys()) - allowed == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if relative(path).startswith(PURE)], ids=id_of)
def test_rooms_that_decide_import_nothing_that_acts(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports_of(path)}

    assert roots & IMPURE == set()


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if "muster_controller" not in path.parts], ids=id_of
)
def test_a_device_needs_no_web_framework_and_no_database_mapper(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports_of(path)}

    assert roots & DEVICE_FREE_OF == set()


def test_only_sessions_and_their_base_speak_mqtt() -> None:
    """paho is no part of the base install: nothing that a reader of manifests imports may import it."""
    speakers = {relative(path) for path in SOURCES if {"paho", "muster_models.mqtt"} & mqtt_of(path)}

    assert speakers == {
        "models/muster_models/mqtt.py",
        "agent/muster_agent/link.py",
        "agent/muster_agent/session.py",
        "controller/muster_controller/broker/eviction.py",
        "controller/muster_controller/link.py",
        "controller/muster_controller/session.py",
    }


def mqtt_of(path: Path) -> set[str]:
    names = set(imports_of(path))
    return {name.partition(".")[0] for name in names} | names


def test_only_trust_seals_a_verified_manifest() -> None:
    users = {
        relative(path)
        for path in SOURCES
        if any(name.endswith((".verified._seal", ".verified._SEAL")) for name in imports_of(path))
    }

    assert users <= {relative(path) for path in (PACKAGES["muster_models"] / "trust").glob("*.py")}
    assert len(users) > 0


def test_no_module_lies_directly_under_the_top_folders() -> None:
    stray = [path.name for top in ("agent", "controller", "models") for path in (ROOT / top).glob("*.py")]

    assert stray == []


@pytest.mark.parametrize("path", SOURCES, ids=id_of)
def test_a_module_is_one_room(path: Path) -> None:
    """Nothing is called utils, and no module outgrows what a reader can hold."""
    assert path.stem not in {"utils", "helpers", "common", "manager", "misc"}
    assert len(path.read_text().splitlines()) <= 450


def test_imports_form_no_circle_between_modules() -> None:
    graph = {module_name(path): targets(path) for path in SOURCES}
    done: set[str] = set()

    circles = [circle for module in graph if (circle := find_circle(module, graph, done, [])) is not None]

    assert circles == []


def module_name(path: Path) -> str:
    folder = next(folder for folder in PACKAGES.values() if path.is_relative_to(folder))
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def targets(path: Path) -> set[str]:
    """Return the modules of ours that a file imports while it is itself being imported."""
    known = {module_name(source) for source in SOURCES}
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names} & known
            case ast.ImportFrom(module=str(module), names=names):
                submodules = {f"{module}.{alias.name}" for alias in names} & known
                found |= submodules or ({module} & known)
            case _:
                pass
    return found - {module_name(path)}


def find_circle(
    module: str, graph: dict[str, set[str]], done: set[str], trail: list[str]
) -> list[str] | None:
    if module in trail:
        return [*trail[trail.index(module) :], module]
    if module in done:
        return None
    for target in sorted(graph.get(module, ())):
        circle = find_circle(target, graph, done, [*trail, module])
        if circle is not None:
            return circle
    done.add(module)
    return None
