"""Wiring: every part of a running controller is made here, and nothing else knows all of them."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from muster_controller.alone import alone
from muster_controller.api.app import make_api
from muster_controller.api.device_side import make_device_app
from muster_controller.broker.config import Listener, Revoked
from muster_controller.broker.process import Broker
from muster_controller.config import Folder, Settings, load_settings
from muster_controller.delivery.courier import Courier
from muster_controller.delivery.signature import load_keys
from muster_controller.ingest import Ingest
from muster_controller.link import Address, Link
from muster_controller.reconcile.loop import Outside, Reconcile
from muster_controller.retraining.runner import Runner
from muster_controller.service.context import Context
from muster_controller.service.drills import carry_on
from muster_controller.service.opening import Opened, open_folder
from muster_controller.serving import DeviceTls, bind, make_server, serve
from muster_controller.store import certificates, enrolment, outbox
from muster_controller.store.engine import Reading, Unit, describe
from muster_controller.web.app import make_dashboard

STOP_SECONDS = 2.0  # a try to deliver that takes longer is left; it is made again at the next start
_log = logging.getLogger(__name__)


class Controller:
    """The parts of one controller that run beside its HTTP servers: broker, MQTT session, ingest, loop."""

    def __init__(self, opened: Opened, settings: Settings) -> None:
        """Put the parts together; ``start`` begins."""
        context, pki = opened.context, opened.context.folder.pki
        listener = Listener(settings.device_host, settings.mqtt_port, pki)
        self._broker = Broker(context.folder.broker, listener, kind=settings.broker)
        self._link = Link(Address(listener.local_host, settings.mqtt_port, pki))
        self._reconcile = Reconcile(
            context.engine,
            opened.baselines,
            settings,
            director=opened.director,
            outside=Outside(
                self._link.publish, self._broker.refuse, context.repository.renew, partial(carry_on, context)
            ),
            clock=context.clock,
        )
        self._ingest = Ingest(
            context.engine,
            opened.baselines,
            clock=context.clock,
            publish=self._link.publish,
            greeted=self._reconcile.send_soon,
        )
        self._couriers = _couriers(context, settings)
        self._runner = Runner(context.engine, context.folder, settings, clock=context.clock)
        self.context: Context = replace(context, wake=self._wake, health=self.health)

    def start(self) -> None:
        """Begin: devices can connect once this returns.

        Raises:
            ConflictError: Something else uses the broker's port.
            StorageError: The broker does not start.
        """
        with Reading(self.context.engine) as session:
            now = self.context.clock()
            revoked = Revoked(enrolment.revoked(session), certificates.revoked(session, now))
        self._broker.start(revoked)
        self._ingest.start()
        self._reconcile.start()
        self._link.start(self._ingest.handle, self._reconcile.online)
        with Unit(self.context.engine) as session:
            outbox.abandon(session, [courier.name for courier in self._couriers], now)
        for courier in self._couriers:
            courier.start()
        self._runner.start()

    def stop(self) -> None:
        """End in the order in which nothing that was taken is lost."""
        self._runner.stop()
        self._reconcile.stop()
        for courier in self._couriers:
            courier.stop(STOP_SECONDS)
        self._ingest.stop()
        self._link.stop()
        self._broker.stop()

    def health(self) -> Mapping[str, str]:
        """Return how each part is, in a word or a sentence."""
        last = self._reconcile.last
        pid = self._broker.pid
        broker = f"{self._broker.kind} is down" if pid is None else f"{self._broker.kind} runs, process {pid}"
        return {
            "database": describe(self.context.engine),
            "broker": broker,
            "link": "online" if self._link.wait_online(0) else "offline",
            "loop": "starting" if last is None else f"{last.faults} faults, last pass {last.seconds:.2f} s",
        }

    def _wake(self) -> None:
        self._reconcile.wake()
        for courier in self._couriers:
            courier.wake()


def _couriers(context: Context, settings: Settings) -> list[Courier]:
    """Return one courier per receiver; a secret that cannot be used is told now, not at the first alarm."""
    folder, webhooks = context.folder, settings.webhooks or ()
    for webhook in webhooks:
        load_keys(folder.root / webhook.secret_file)
    return [
        Courier(
            context.engine,
            folder,
            webhook,
            source=f"https://{settings.names[0]}/muster" if settings.names else "/muster",
            clock=context.clock,
            luck=random.SystemRandom().random,
        )
        for webhook in webhooks
    ]


def make_site(context: Context, token: str) -> FastAPI:
    """Return what operators reach: the API, and below everything else the dashboard."""
    app = make_api(context, token)
    app.mount("/", make_dashboard(context, token))
    return app


def run(root: Path) -> None:
    """Run the controller of a folder until the process is told to end.

    Raises:
        RequestError: The folder or a setting is not as it must be.
        InvalidInputError: A setting, or a secret that it names, is not of the expected form.
        ConflictError: A port is in use, or the folder's controller runs already.
        StorageError: The database or the broker cannot be used.
    """
    folder = Folder(root)
    settings = load_settings(folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(folder))
        site = stack.enter_context(contextlib.closing(bind(settings.host, settings.port, setting="port")))
        side = bind(settings.device_host, settings.device_port, setting="device_port")
        stack.enter_context(contextlib.closing(side))
        opened = stack.enter_context(contextlib.closing(open_folder(folder, settings, clock=time.time)))
        opened.context.authority.ensure_own(settings.names, datetime.now(UTC))
        controller = Controller(opened, settings)
        controller.start()
        stack.callback(controller.stop)
        operators = make_server(make_site(controller.context, opened.token))
        devices = make_server(make_device_app(controller.context), DeviceTls(folder.pki))
        _log.info(
            "operators: http://%s:%d, devices: port %d", settings.host, settings.port, settings.device_port
        )
        asyncio.run(serve([(operators, site), (devices, side)]))
        _log.info("ending")
