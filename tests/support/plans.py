"""Plans of rollouts as Hypothesis draws them, from the types of their fields."""

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from muster_controller.domain.rollouts.planning.fields import fields_of
from muster_controller.domain.rollouts.planning.plan import Plan, Stage

NAMES = {"selector": st.sampled_from(["all", "site in (berlin, oslo)", 'device = "a b"', "not hw = rpi5"])}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
WORDS = st.from_regex("[a-z][a-z0-9 -]{0,10}[a-z]", fullmatch=True)


def numbers(kind: inspect.FloatType) -> st.SearchStrategy[float]:
    """Return numbers within the bounds of a field, those that people write among them."""
    low = kind.ge if kind.ge is not None else kind.gt if kind.gt is not None else -1e6
    high = kind.le if kind.le is not None else kind.lt if kind.lt is not None else 1e9
    any_of_them = st.floats(
        low, high, exclude_min=kind.gt is not None, exclude_max=kind.lt is not None, allow_subnormal=False
    )
    round_ones = st.sampled_from([0.01, 0.07, 0.25, 1.0, 10.0, 60.0, 90.0, 600.0, 86_400.0, 1_800_000_000.0])
    return any_of_them | round_ones.filter(lambda value: low < value < high)


def values(kind: inspect.Type, name: str) -> st.SearchStrategy[Any]:
    """Return what a field of a plan may hold, as plain values."""
    match kind:
        case inspect.UnionType(types):
            (given_,) = [side for side in types if not isinstance(side, inspect.NoneType)]
            return st.none() | values(given_, name)
        case inspect.StructType(cls) if cls is Stage:
            return stages()
        case inspect.StructType(cls):
            return parts(cls)
        case inspect.VarTupleType(inner, least, most):
            return st.lists(values(inner, name), min_size=least or 0, max_size=min(most or 4, 4))
        case inspect.DictType(key_type, value_type):
            return st.dictionaries(values(key_type, ""), values(value_type, ""), max_size=3)
        case _:
            return single(kind, name)


def single(kind: inspect.Type, name: str) -> st.SearchStrategy[Any]:
    """Return what a field with one value may hold."""
    match kind:
        case inspect.IntType():
            return st.integers(kind.ge or 0, kind.le or 10**9)
        case inspect.FloatType():
            return numbers(kind)
        case inspect.StrType(pattern=pattern):
            fitting = st.from_regex((pattern or "").replace(r"\Z", "$"), fullmatch=True)
            return NAMES.get(name, TEXTS) if pattern is None else fitting
        case inspect.LiteralType(words):
            return st.sampled_from(words)
        case inspect.EnumType(cls):
            return st.sampled_from([str(one.value) for one in cls])
        case _:
            assert isinstance(kind, inspect.BoolType)
            return st.booleans()


def parts(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    """Return parts of a plan, each field given or not."""
    known = list(fields_of(kind).values())
    needed = {one.name: values(one.type, one.name) for one in known if one.required}
    free = {one.name: values(one.type, one.name) for one in known if not one.required}
    return st.fixed_dictionaries(needed, optional=free)


def stages() -> st.SearchStrategy[dict[str, Any]]:
    """Return stages, which have one size and may say more."""
    fields = {one.name: values(one.type, one.name) for one in fields_of(Stage).values()}
    more = {name: fields[name] for name in fields if name not in {"percent", "count"}}
    sizes = st.sampled_from([{"percent": 5.0}, {"percent": 33.3}, {"count": 1}])
    return st.builds(lambda size, rest: {**size, **rest}, sizes, st.fixed_dictionaries({}, optional=more))


def plan_fields() -> st.SearchStrategy[dict[str, Any]]:
    """Return fields of plans whose stages, windows and ramp do not contradict themselves."""
    sizes = st.lists(st.integers(1, 99), max_size=3, unique=True).map(sorted)
    more = st.fixed_dictionaries(
        {}, optional={"soak_seconds": st.integers(0, 10**6).map(float), "minimum_rounds": st.integers(1, 50)}
    )
    stages = sizes.flatmap(
        lambda percents: st.tuples(*(more for _ in [*percents, 100])).map(
            lambda rest: [{"percent": float(p), **m} for p, m in zip([*percents, 100], rest, strict=True)]
        )
    )
    # Margins name gates, and windows and ramps must not contradict themselves: each has tests of its own.
    unbound = {"stages", "windows", "ramp", "selector", "margins", "minimums", "seed"}
    free = {
        one.name: values(one.type, one.name) for one in fields_of(Plan).values() if one.name not in unbound
    }
    return st.fixed_dictionaries(
        {}, optional={"stages": stages, "selector": NAMES["selector"], "seed": WORDS, **free}
    )
