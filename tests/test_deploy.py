"""Files for other machines: they can be read, are whole, and run commands that exist."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from convscope.cli._main import app
from convscope.scale.multihost import Launch, launch_of

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = [
    document
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in MANIFESTS if each["kind"] == kind]


def templates() -> list[dict[str, Any]]:
    """The templates of all pods."""
    found = [each["spec"]["template"] for kind in ("Deployment", "Job") for each in of_kind(kind)]
    for cluster in of_kind("RayCluster"):
        groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
        found += [group["template"] for group in groups]
    return found


def commands() -> list[list[str]]:
    """The words of each command of convscope in a file, without "convscope"."""
    found = []
    for template in templates():
        for container in template["spec"]["containers"]:
            args = container.get("args", [])
            # The image for serving has the command in its entry point.
            found += [["serve", *args] if args[0].startswith("/") else args] if args else []
    served = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["convscope"]
    found.append(["serve", *served["command"]])
    found += [shlex.split(job["spec"]["entrypoint"])[1:] for job in of_kind("RayJob")]
    texts = [(DEPLOY / "convscope.service").read_text()]
    texts += [file.read_text().replace("\\\n", " ") for file in (DEPLOY / "slurm").iterdir()]
    lines = "\n".join(texts).splitlines()
    at_start = re.compile(r"^(?:srun |ExecStart=\S*/)?convscope (.+)")
    found += [shlex.split(line[1]) for text in lines if (line := at_start.match(text))]
    return found


COMMANDS = commands()


def test_the_commands_of_all_files_are_found():
    names = sorted(words[0] for words in COMMANDS)
    assert [name for name in names if name == "serve"] == ["serve"] * 3
    assert names.count("compare") == 2


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: f"{words[0]} {words[1]}")
def test_each_command_has_options_that_exist(words):
    command = typer.main.get_command(app).commands[words[0]]
    # It parses and checks the values; nothing is run.
    context = command.make_context(words[0], list(words[1:]))
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    known = {option for each in context.command.params for option in each.opts}
    assert given <= known


def test_a_wrong_option_would_be_found():
    command = typer.main.get_command(app).commands["compare"]
    with pytest.raises(Exception, match="No such option: --rays"):
        command.make_context("compare", ["--rays", "auto"])


def test_each_manifest_says_what_it_is_and_each_pod_has_no_rights():
    versions = {(each["apiVersion"], each["kind"]) for each in MANIFESTS}
    assert versions >= {
        ("apps/v1", "Deployment"),
        ("batch/v1", "Job"),
        ("v1", "Service"),
        ("ray.io/v1", "RayCluster"),
        ("ray.io/v1", "RayJob"),
    }
    assert all(each["metadata"]["name"] for each in MANIFESTS)
    for template in templates():
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        assert not template["spec"]["automountServiceAccountToken"]
        for container in template["spec"]["containers"]:
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            volumes = {volume["name"] for volume in template["spec"]["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_parts_of_a_cluster_name_each_other():
    (cluster,) = of_kind("RayCluster")
    (job,) = of_kind("RayJob")
    assert job["spec"]["clusterSelector"]["ray.io/cluster"] == cluster["metadata"]["name"]
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert cluster["spec"]["rayVersion"] == pinned[1]
    # A run's threads fit into a worker's cores.
    words = shlex.split(job["spec"]["entrypoint"])
    threads = int(words[words.index("--threads") + 1])
    (group,) = cluster["spec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert int(container["resources"]["limits"]["cpu"]) % threads == 0
    for service in of_kind("Service"):
        labels = [each["spec"]["selector"].get("matchLabels") for each in of_kind("Deployment")]
        names = [{"job-name": each["metadata"]["name"]} for each in of_kind("Job")]
        assert service["spec"]["selector"] in labels + names


def test_each_process_of_an_indexed_job_finds_the_first():
    (job,) = of_kind("Job")
    name, spec = job["metadata"]["name"], job["spec"]
    assert (spec["completionMode"], spec["parallelism"]) == ("Indexed", spec["completions"])
    (container,) = spec["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    for index in range(spec["completions"]):
        found = launch_of({**variables, "JOB_COMPLETION_INDEX": str(index)})
        # The host name of the first pod, in the domain that the headless service gives it.
        address = f"{name}-0.{spec['template']['spec']['subdomain']}:1234"
        assert found == Launch(spec["completions"], index, address)
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind("Service")}
    service = services[spec["template"]["spec"]["subdomain"]]
    assert service["clusterIP"] == "None"
    assert [port["port"] for port in service["ports"]] == [1234]


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.train"])
def test_images_install_extras_that_exist_and_copy_files_that_exist(file):
    text = (DEPLOY / file).read_text().replace("\\\n", " ")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"'\.\[(.+?)\]'", text):
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M)
    assert copied
    assert all((ROOT / name).exists() for names in copied for name in names.split())
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", text, re.M)
    named = [name for _, name in stages]
    # A stage starts from a published image or from one before it.
    assert all(":" in source or source in named[:n] for n, (source, _) in enumerate(stages))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("file", sorted((DEPLOY / "slurm").iterdir()), ids=lambda file: file.name)
def test_scripts_have_no_errors_of_syntax(file):
    done = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
