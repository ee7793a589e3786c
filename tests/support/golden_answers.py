"""How a runtime answers golden vectors."""

from muster_models.golden import Golden, compare
from muster_models.runtime import Runtime
from muster_models.tensors import unpack


def what_is_wrong(runtime: Runtime, golden: Golden) -> list[str | None]:
    """Return for each vector what is wrong with the answer, None where it is within tolerance."""
    return [
        compare(
            vector.outputs,
            runtime.run(unpack(vector.inputs)),
            absolute=golden.absolute,
            relative=golden.relative,
        )
        for vector in golden.vectors
    ]
