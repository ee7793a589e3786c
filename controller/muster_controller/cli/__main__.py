"""``muster``: reads the command line, runs one command, tells one line when it fails."""

import json
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from muster_controller.cli import (
    admission,
    alarms,
    approvals,
    baseline,
    devices,
    drills,
    evidence,
    history,
    jobs,
    keys,
    models,
    people,
    publish,
    reporting,
    rollout_edits,
    rollouts,
    rotation,
    samples,
    signing,
    truth,
)
from muster_controller.cli.exits import Exit, UsageError, exit_of
from muster_controller.cli.output import note
from muster_models import __version__
from muster_models.errors import MusterError

# Commands of a noun that live apart: with what else lets in, signs, or changes keys.
for command in (admission.token, admission.pending, admission.accept, admission.refuse):
    devices.app.command(command)
devices.app.command(admission.list_tokens, name="tokens")
devices.app.command(admission.revoke_token, name="revoke-token")
history.alarm.command(alarms.acknowledge)
rollouts.app.command(approvals.approvals)
rollouts.app.command(approvals.approve)
rollouts.app.command(approvals.withhold)
rollouts.app.command(rollout_edits.edit)
models.version.command(publish.withdraw)
models.drift.command(reporting.plan)
models.drift.command(evidence.explain)
models.drift.command(evidence.export)
models.drift.command(evidence.threshold)
keys.app.command(rotation.rotate)
keys.app.command(rotation.add_owner)
keys.app.command(rotation.revoke)


def make_app() -> App:
    """Return the command line with every command."""
    app = App(name="muster", help="Publish, roll out and watch models on a fleet.", version=__version__)
    for noun in (
        keys.app,
        devices.app,
        models.model,
        models.version,
        rollouts.app,
        drills.app,
        baseline.app,
        models.drift,
        reporting.app,
        samples.app,
        truth.app,
        history.alarm,
        alarms.silence,
        alarms.webhook,
        jobs.app,
        people.app,
        history.event,
        history.audit,
    ):
        app.command(noun)
    app.command(publish.publish)
    app.command(signing.sign)
    app.command(models.stop)
    app.command(models.start)
    app.command(history.show_status, name="status")
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = make_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, UsageError) as error:
        return _tell(arguments, Exit.USAGE, "usage", str(error))
    except MusterError as error:
        return _tell(arguments, exit_of(error), "failed", str(error), error.reason.value)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has seen enough; nothing may be written at exit either.
        sys.stderr.close()
        return Exit.OK
    return code if isinstance(code, int) else Exit.OK


def _tell(arguments: Sequence[str], code: Exit, kind: str, message: str, reason: str = "") -> Exit:
    if _wants_json(arguments):
        note(json.dumps({"error": {"code": kind, "message": message, "reason": reason}}))
    else:
        note(f"muster: {message}")
    return code


def _wants_json(arguments: Sequence[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    joined = {"-ojson", "-o=json", "--output=json"}
    return any(pair in {("-o", "json"), ("--output", "json")} or pair[0] in joined for pair in pairs)


if __name__ == "__main__":
    main()
