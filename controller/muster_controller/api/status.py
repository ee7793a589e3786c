"""``/status`` and ``/overview``: how the controller and the fleet are."""

from fastapi import APIRouter

from muster_controller.api.parts import Here
from muster_controller.service import overview
from muster_controller.service.overview import Overview, Status

router = APIRouter(tags=["status"])


@router.get("/status")
def show_status(context: Here) -> Status:
    """Return how the controller itself is."""
    return overview.show_status(context)


@router.get("/overview")
def show_overview(context: Here) -> Overview:
    """Return what needs a person now, how the fleet is, and what is running."""
    return overview.show_overview(context)
