"""The real ``muster`` command against a real controller: what it prints, and with which exit code it ends."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.controller_process import BIN, SECONDS, ControllerProcess, Done, execute

ZOO = Path(__file__).parents[2] / "models/zoo"


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """One controller for all tests of this file: each test makes what it looks at."""
    with ControllerProcess(tmp_path_factory.mktemp("cli")) as running:
        made = running.muster("keys", "init", str(running.folder / "keys"), "--no-passphrase")
        assert made.code == 0, made.err
        yield running


@pytest.fixture(scope="module")
def digits(controller: ControllerProcess) -> dict[str, Any]:
    """``digits@1.0.0``, published by the command."""
    done = publish(controller, "digits/1.0.0", "-o", "json")
    assert done.code == 0, done.err
    detail: dict[str, Any] = json.loads(done.out)
    return detail


def publish(controller: ControllerProcess, version: str, *options: str) -> Done:
    return controller.muster(
        "publish", str(ZOO / version), "--keys", str(controller.folder / "keys"), *options
    )


def test_keys_are_made_for_two_of_three_roots_and_only_their_owner_reads_them(
    controller: ControllerProcess,
) -> None:
    keys = sorted((controller.folder / "keys").glob("*.key"))

    assert {"root-1.key", "root-2.key", "root-3.key", "targets.key"} <= {key.name for key in keys}
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_a_second_repository_is_refused_as_a_conflict(controller: ControllerProcess, tmp_path: Path) -> None:
    done = controller.muster("keys", "init", str(tmp_path / "more"), "--no-passphrase")

    assert (done.code, done.out) == (5, "")
    assert done.err == "muster: the controller has a signed repository already\n"
    assert not (tmp_path / "more").exists()


def test_keys_are_never_overwritten(controller: ControllerProcess) -> None:
    done = controller.muster("keys", "init", str(controller.folder / "keys"), "--no-passphrase")

    assert done.code == 5
    assert "never overwritten" in done.err


def test_publishing_measures_signs_and_releases(
    digits: dict[str, Any], controller: ControllerProcess
) -> None:
    assert digits["version"]["name"] == "digits@1.0.0"
    assert digits["version"]["release"] == 1
    assert digits["version"]["metrics"]["accuracy"] > 0.8
    shown = controller.muster("version", "show", "digits@1.0.0")
    assert digits["version"]["digest"] in shown.out
    assert "accuracy" in shown.out


def test_a_version_is_published_once(digits: dict[str, Any], controller: ControllerProcess) -> None:
    done = publish(controller, "digits/1.0.0")

    assert (done.code, done.out) == (5, "")
    assert done.err == f"muster: {digits['version']['name']} was released before; a version never changes\n"


def test_a_missed_threshold_is_refused_unless_it_is_waived(
    digits: dict[str, Any], controller: ControllerProcess
) -> None:
    refused = publish(controller, "digits/1.2.0")
    waived = publish(controller, "digits/1.2.0", "--waive", "accuracy=only to see it fail", "-o", "json")

    assert refused.code == 1
    assert "threshold 'accuracy'" in refused.err
    detail = json.loads(waived.out)
    assert detail["version"]["release"] > digits["version"]["release"]
    (threshold,) = (one for one in detail["version"]["thresholds"] if one["metric"] == "accuracy")
    assert (threshold["met"], threshold["waiver"]) == (False, "only to see it fail")
    assert detail["parent"]["model"] == "digits"


@pytest.mark.usefixtures("digits")
def test_a_version_is_withdrawn_with_the_release_key(controller: ControllerProcess) -> None:
    published = publish(controller, "digits/1.1.0")
    keys = str(controller.folder / "keys")
    done = controller.muster("version", "withdraw", "digits@1.1.0", "--keys", keys, "--reason", "a mistake")
    listed = json.loads(controller.muster("version", "list", "digits", "-o", "json").out)

    assert (published.code, done.code, done.out) == (0, 0, "digits@1.1.0 is withdrawn\n")
    assert [one["name"] for one in listed if one["withdrawn_at"]] == ["digits@1.1.0"]


@pytest.mark.usefixtures("digits")
def test_roles_are_signed_again_before_they_expire(controller: ControllerProcess) -> None:
    before = (controller.status() or {})["expires"]
    keys = str(controller.folder / "keys")
    done = controller.muster("keys", "renew", "--keys", keys)
    root = controller.muster("keys", "renew", "root", "digits", "--keys", keys)
    after = (controller.status() or {})["expires"]

    assert (done.code, done.out) == (0, "signed again: targets, digits\n")
    assert (root.code, root.out) == (0, "signed again: root, digits\n")
    for role in ("root", "targets", "model-digits"):
        assert after[role] >= before[role]


def test_roles_are_named_in_one_way_and_an_unknown_one_is_told_what_there_is(
    controller: ControllerProcess,
) -> None:
    keys = str(controller.folder / "keys")
    one = json.loads(controller.muster("keys", "show", "root", "-o", "json").out)
    shown = controller.muster("keys", "show", keys)
    renewed = controller.muster("keys", "renew", "nothing", "--keys", keys)

    assert [held["role"] for held in one] == ["root"]
    assert (shown.code, renewed.code) == (3, 3)
    for done in (shown, renewed):
        assert "expected root, targets, or the name of a model; there are: root, " in done.err


def test_founding_says_what_the_operators_command_needs(tmp_path: Path) -> None:
    done = execute("muster-controller", "init", str(tmp_path / "home"), "--port", "8555")

    assert done.code == 0, done.err
    token = tmp_path / "home/operator.token"
    assert f"export MUSTER_URL=http://127.0.0.1:8555 MUSTER_TOKEN_FILE={token}\n" in done.out


def test_publishing_without_keys_says_how_to_make_them(controller: ControllerProcess, tmp_path: Path) -> None:
    done = controller.muster("publish", str(ZOO / "weather/1.0.0"), "--keys", str(tmp_path))

    assert done.code == 3
    assert "muster keys init DIR" in done.err


def test_a_device_token_names_the_device(controller: ControllerProcess) -> None:
    as_json = controller.muster("device", "token", "oslo-1", "--label=site=oslo", "-o", "json")
    plain = controller.muster("device", "token", "oslo-1", "--label", "site=oslo")

    made = json.loads(as_json.out)
    assert set(made) == {"device", "token", "expires_at", "url"}
    assert made["token"].startswith("mst1.oslo-1.")
    assert plain.out.startswith("mst1.oslo-1.")
    assert plain.out.count("\n") == 1
    assert made["url"] == f"https://localhost:{controller.ports['device']}"
    assert f"UTC, on the device: muster-agent enrol {made['url']} {plain.out}".strip() in plain.err


@pytest.mark.usefixtures("digits")
def test_a_plan_is_shown_with_what_stands_in_its_way(controller: ControllerProcess) -> None:
    done = controller.muster(
        "rollout", "plan", "digits@1.0.0", "--where", "site = oslo", "--stages", "25%,100%",
        "--control", "25%", "--soak", "5", "--minimum-rounds", "3", "--budget", "0.02", "-o", "json",
    )  # fmt: skip

    plan = json.loads(done.out)
    assert plan["obstacles"] == ["no device is 'site = oslo'"]
    assert [stage["percent"] for stage in plan["stages"]] == [25.0, 100.0]
    assert {stage["soak_seconds"] for stage in plan["stages"]} == {5.0}
    assert {stage["minimum_rounds"] for stage in plan["stages"]} == {3}
    assert (plan["plan"]["control"], plan["plan"]["error_budget"]) == (0.25, 0.02)


@pytest.mark.usefixtures("digits")
def test_a_rollout_to_nobody_does_not_start(controller: ControllerProcess) -> None:
    done = controller.muster("rollout", "start", "digits@1.0.0", "--where", "site = oslo")
    listed = controller.muster("rollout", "list", "-o", "json")

    assert (done.code, done.err) == (5, "muster: no device is 'site = oslo'\n")
    assert json.loads(listed.out) == []


@pytest.mark.usefixtures("digits")
def test_a_model_is_stopped_and_started(controller: ControllerProcess) -> None:
    stopped = controller.muster("stop", "digits", "--reason", "smoke")
    again = controller.muster("stop", "digits")
    started = controller.muster("start", "digits")
    audit = json.loads(controller.muster("audit", "list", "-o", "json", "--limit", "2").out)

    assert (stopped.code, again.code, started.code) == (0, 5, 0)
    assert stopped.out == (
        "digits is stopped: no device runs a version of it now; on one that installs it, what the version "
        "declares holds\n"
    )
    assert [(entry["action"], entry["reason"]) for entry in audit] == [
        ("model.start", ""),
        ("model.stop", "smoke"),
    ]


@pytest.mark.usefixtures("digits")
def test_drift_without_windows_is_an_empty_page(controller: ControllerProcess) -> None:
    done = controller.muster("drift", "show", "digits", "-o", "json")

    view = json.loads(done.out)
    assert (view["windows"], view["subject"]) == (0, "all")
    assert "brightness" in {feature["name"] for feature in view["features"]}


@pytest.mark.usefixtures("digits")
def test_a_named_threshold_stands_beside_its_false_alarms(controller: ControllerProcess) -> None:
    shown = controller.muster("drift", "threshold", "digits", "--statistic", "psi", "--above", "0.2")
    view = json.loads(
        controller.muster(
            "drift", "threshold", "digits", "--statistic", "ks", "--above", "0.1", "-o", "json"
        ).out
    )

    assert "WITHOUT DRIFT" in shown.out
    assert (view["statistic"], view["threshold"], view["windows"]) == ("ks", 0.1, 0)
    assert "brightness" in {feature["name"] for feature in view["features"]}


def test_exported_windows_begin_with_their_baselines(controller: ControllerProcess) -> None:
    lines = controller.muster("drift", "export", "digits").out.splitlines()
    baselines = [json.loads(line) for line in lines]  # nothing was measured here

    assert baselines
    for line in baselines:  # of every version that tests of this module have published by now
        assert len(line["baseline"]) == 64
        assert "brightness" in {column["name"] for column in line["columns"]}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("drift explain 99", 3, "no alarm 99"),
        ("drift export nothing", 3, "no model"),
        ("drift threshold digits --statistic chi --above 1", 2, "psi"),
        ("drift threshold digits --statistic psi --above -1", 1, "above"),
        ("device show nobody", 3, "no device 'nobody'"),
        ("version show digits@9.9.9", 3, "no version digits@9.9.9"),
        ("rollout watch 99", 3, "no rollout 99"),
        ("alarm show 99", 3, "no alarm 99"),
        ("device list --where site=", 1, "column"),
        ("device token ../evil", 1, "device id must match"),
        ("device token oslo-1 --label site", 2, "KEY=VALUE"),
        ("rollout plan digits@1.0.0 --stages half", 2, "25%"),
        ("rollout plan digits@1.0.0 --control much", 2, "25%"),
        ("rollout plan digits@1.0.0 --soak nan", 2, "expected a duration such as 90s, 10m or 24h"),
        ("device", 0, ""),
        ("device shw", 2, "shw"),
        ("device show", 2, "DEVICE"),
        ("device list --limit many", 2, "limit"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    controller: ControllerProcess, arguments: str, code: int, said: str
) -> None:
    done = controller.muster(*arguments.split())

    assert done.code == code, done.err
    assert said in done.err
    assert done.err.count("\n") <= 1
    assert "Traceback" not in done.err


def test_with_json_an_error_is_json_too(controller: ControllerProcess) -> None:
    done = controller.muster("device", "show", "nobody", "-o", "json")

    assert json.loads(done.err)["error"]["message"] == "no device 'nobody'"
    assert done.code == 3


def test_a_wrong_token_is_forbidden(controller: ControllerProcess, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")

    done = controller.muster("status", "--token-file", str(tmp_path / "token"))

    assert (done.code, done.out) == (4, "")


def test_without_a_token_the_command_says_which_option_names_it(controller: ControllerProcess) -> None:
    done = controller.muster("status", MUSTER_TOKEN_FILE="")

    assert done.code == 2
    assert "MUSTER_TOKEN_FILE" in done.err


def test_a_controller_that_does_not_answer_is_named(controller: ControllerProcess) -> None:
    done = controller.muster("status", "--url", "http://127.0.0.1:9")

    assert done.code == 1
    assert done.err == "muster: http://127.0.0.1:9: no answer from the controller: Connection refused\n"


def test_the_status_shows_every_part(controller: ControllerProcess) -> None:
    controller.wait(lambda: ((controller.status() or {}).get("health") or {}).get("link") == "online")

    done = controller.muster("status")

    assert done.code == 0
    assert "link=online" in done.out
    assert "signed repository  yes" in done.out


@pytest.mark.parametrize("words", ["--version", "nonsense", "status --token-file /nowhere", "device --help"])
def test_the_installed_command_says_what_it_says_in_these_tests(words: str) -> None:
    """They fork it from a process that has imported it; see ``support.commands``."""
    installed = subprocess.run(
        [BIN / "muster", *words.split()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )

    assert execute("muster", *words.split()) == Done(installed.returncode, installed.stdout, installed.stderr)
