"""The files of ``jobs/deploy``: that each is well formed, and that what it calls exists."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
from conftest import REPOSITORY
from program import call

from stylematch.settings.export import ExportJob
from stylematch.settings.load import load_job, validated

yaml = pytest.importorskip("yaml")
DEPLOY = REPOSITORY / "jobs" / "deploy"
CRON, SERVICE, TIMER = DEPLOY / "crontab", DEPLOY / "stylematch-nightly.service", DEPLOY / "stylematch-nightly.timer"
SLURM, KUBERNETES, DOCKERFILE = DEPLOY / "nightly.sbatch", DEPLOY / "cronjob.yaml", DEPLOY / "Dockerfile"


def plain_lines(path) -> list[str]:
    """Return the lines that are no comments, continued ones joined."""
    text = path.read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def documents() -> dict[str, dict]:
    return {document["kind"]: document for document in yaml.safe_load_all(KUBERNETES.read_text())}


def container() -> dict:
    spec = documents()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (only,) = spec["containers"]
    return only


def instructions() -> list[tuple[str, str]]:
    return [tuple(line.split(maxsplit=1)) for line in plain_lines(DOCKERFILE)]


def commands() -> list[list[str]]:
    """Return what each file calls: the words after the program's name."""
    called = [line for path in (CRON, SERVICE, SLURM) for line in plain_lines(path) if "stylematch-batch " in line]
    words = [shlex.split(re.split(r"stylematch-batch ", line, maxsplit=1)[1], comments=True) for line in called]
    (command,) = [json.loads(text) for name, text in instructions() if name == "CMD"]
    return [*words, container()["command"][1:], command]


def test_every_command_and_option_is_there():
    assert len(commands()) == 5
    options = set(re.findall(r"--[a-z-]+", call("export", "--help").out))
    for words in commands():
        command, job, *rest = words[2:] if words[:2] == ["--log-format", "json"] else words
        assert command == "export"
        assert {word for word in rest if word.startswith("--")} <= options
        assert job in ("jobs/nightly.toml", "/etc/stylematch/nightly.toml")
    assert load_job(REPOSITORY / "jobs/nightly.toml", ExportJob).keep_snapshots >= 1
    validated(ExportJob, "nightly.toml", **tomllib.loads(documents()["ConfigMap"]["data"]["nightly.toml"]))


def test_crontab():
    *settings, line = plain_lines(CRON)
    assert all(re.fullmatch(r"[A-Z]+=\S+", setting) for setting in settings)
    fields = line.split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*,/-]+", field) for field in fields[:5])
    assert "%" not in fields[5]  # which cron takes for a line feed


@pytest.mark.parametrize(
    ("codes", "runs", "mailed"), [("0", 1, False), ("3 0", 2, False), ("3 3", 2, True), ("2", 1, True), ("4", 1, True)]
)
def test_the_crontab_runs_again_on_3_and_mails_only_failures(tmp_path, codes, runs, mailed):
    program = tmp_path / ".venv/bin/stylematch-batch"
    program.parent.mkdir(parents=True)
    (tmp_path / "codes").write_text("\n".join([*codes.split(), ""]))
    program.write_text(
        "#!/bin/sh\necho out; echo progress >&2\ncode=$(head -n 1 codes); sed -i 1d codes; echo x >>runs; exit $code\n"
    )
    program.chmod(0o755)
    line = plain_lines(CRON)[-1].split(maxsplit=5)[5].replace("/srv/stylematch", str(tmp_path))
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    assert (tmp_path / "runs").read_text().count("x") == runs
    assert ((done.stdout + done.stderr) != "") == mailed
    if mailed:
        assert f"exit code {codes[-1]}:\n" in done.stdout
    assert "progress" in (tmp_path / "nightly.log").read_text()


def test_systemd_units(tmp_path):
    for path, section in ((SERVICE, "Service"), (TIMER, "Timer")):
        unit = configparser.ConfigParser(strict=True, interpolation=None)
        unit.optionxform = str
        unit.read_string(path.read_text())
        assert {"Unit", section} <= set(unit.sections())
        # systemd-analyze also wants to see the program.
        (tmp_path / path.name).write_text(
            re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", path.read_text(), flags=re.M)
        )
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: only the units' syntax was checked")
    units = [tmp_path / SERVICE.name, tmp_path / TIMER.name]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    told = [line for line in done.stderr.splitlines() if "stylematch" in line]
    assert (done.returncode, told) == (0, []), done.stderr


def test_slurm_script():
    assert subprocess.run(["bash", "-n", SLURM], capture_output=True).returncode == 0
    lines = SLURM.read_text().splitlines()
    assert 'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ' in SLURM.read_text()
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[: last + 1])  # sbatch reads no further than the first command


def test_kubernetes_cronjob():
    spec = documents()["CronJob"]["spec"]
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert pod["restartPolicy"] == "Never"  # what a podFailurePolicy asks for
    assert pod["securityContext"]["runAsNonRoot"]
    assert container()["securityContext"]["readOnlyRootFilesystem"]
    disrupted, mistaken = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (disrupted["action"], disrupted["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    rule = mistaken["onExitCodes"]
    assert (mistaken["action"], rule["containerName"], rule["values"]) == ("FailJob", container()["name"], [2, 4])
    assert container()["resources"]["limits"]["cpu"]  # else there would be a process for each core of the node
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_dockerfile_keeps_hadolints_rules():
    """Not built here: the rules that hadolint checks first, and that what is copied is there and not ignored."""
    names = [name for name, _ in instructions()]
    assert "ADD" not in names
    for name, text in instructions():
        if name == "FROM":
            assert re.match(r"\S+:\d+\.\d+\.\d+-\S+", text)
        if "pip install" in text:
            assert "--no-cache-dir" in text
            assert "-c constraints.txt" in text
    user = names.index("USER")
    assert instructions()[user][1] == "10001:10001"
    assert user < names.index("ENTRYPOINT")
    allowed = {line[1:] for line in plain_lines(DEPLOY / "Dockerfile.dockerignore") if line.startswith("!")}
    copied = [
        word for name, text in instructions() if name == "COPY" and "--from" not in text for word in text.split()[:-1]
    ]
    sources = {word.removeprefix("./") for word in copied if not word.startswith("--")}
    assert sources == allowed
    assert all((REPOSITORY / source).exists() for source in sources)
