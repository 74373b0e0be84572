"""Verbs on a folder of objects: what is shown of them, and what is said of files that are not read."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gloo_nomad.api.kinds import VIRTUAL_SERVICE
from gloo_nomad.api.refs import Ref
from gloo_nomad.cli.main import build_app
from gloo_nomad.cli.standing import Standing, standing_of
from gloo_nomad.frontdoor.objects import Stored
from gloo_nomad.sources.files import RULE

META = "metadata: {namespace: gloo-system, name: a}\n"


def run(folder: Path, *arguments: str) -> Result:
    """Runs the command line on a folder."""
    return CliRunner().invoke(build_app(), [*arguments, "--config-dir", str(folder)])


def write(folder: Path, path: str, text: str) -> None:
    """Writes a file below the folder."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "text", "shown"),
    [
        ("routetables/gloo-system/a.yaml", "routes: [{}]\n", "1 route"),
        ("routetables/gloo-system/a.yaml", "routes: [{}, {}]\n", "2 routes"),
        ("upstreams/gloo-system/a.yaml", "consul: {serviceName: s}\n", "consul s"),
    ],
)
def test_details(tmp_path: Path, path: str, text: str, shown: str) -> None:
    """What matters of an object can be read without its kind's column."""
    write(tmp_path, path, META + text)
    assert run(tmp_path, "get", "all").stdout.splitlines()[1].endswith(shown)


def test_service_of_nomad(tmp_path: Path) -> None:
    """An Upstream for a service of Nomad is not shown as one of Consul."""
    meta = META.replace("name: a", "name: a, annotations: {gloo-nomad/provider: nomad}")
    write(tmp_path, "upstreams/gloo-system/a.yaml", meta + "consul: {serviceName: s}\n")
    assert run(tmp_path, "get", "us").stdout.splitlines()[1].split() == ["gloo-system", "a", "nomad", "s"]


def test_metadata_are_first(tmp_path: Path) -> None:
    """A printed object begins with its name, as people write it."""
    write(tmp_path, "virtualservices/gloo-system/a.yaml", META + "virtualHost: {domains: [a]}\n")
    printed = yaml.safe_load(run(tmp_path, "get", "vs", "a", "-o", "yaml").stdout)
    assert list(printed) == ["metadata", "virtualHost"]
    applied = CliRunner().invoke(build_app(), ["apply", str(tmp_path), "--config-dir", str(tmp_path / "other")])
    assert "does not exist" in str(applied.exception)
    (tmp_path / "other").mkdir()
    CliRunner().invoke(build_app(), ["apply", str(tmp_path), "--config-dir", str(tmp_path / "other")])
    written = (tmp_path / "other/virtualservices/gloo-system/a.yaml").read_text()
    assert list(yaml.safe_load(written)) == ["metadata", "virtualHost"]


def test_all_takes_no_name(tmp_path: Path) -> None:
    """A name goes with a kind."""
    result = run(tmp_path, "get", "all", "a")
    assert str(result.exception) == '"all" takes no name; say of which kind a is: gloo-nomad get vs a'


def test_warning_is_said_once() -> None:
    """The heading that Gloo's statuses have before warnings does not repeat the state."""
    reason = "warning: \n  path: is not supported"
    status = {"namespacedStatuses": {"statuses": {"gloo-system": {"state": "Warning", "reason": reason}}}}
    text = json.dumps({"metadata": {"namespace": "gloo-system", "name": "a"}, **status}).encode()
    stored = Stored(VIRTUAL_SERVICE, Ref("gloo-system", "a"), "1", text)
    assert standing_of(stored) == Standing("Warning", "path: is not supported")


def test_files_that_are_not_read(tmp_path: Path) -> None:
    """Files that look like objects and are where none is read are named: validate would take them."""
    write(tmp_path, "virtualservices/gloo-system/a.yaml", META + "virtualHost: {}\n")
    strays = ("loose.yaml", "secrets/cert.yaml", "virtualservices/b.yml", "virtualservices/gloo-system/c.json")
    for stray in (*strays, ".hidden.yaml", "notes.txt"):
        write(tmp_path, stray, META.replace("name: a", "name: c"))
    findings = json.loads(run(tmp_path, "check", "--no-proxy", "-o", "json").stdout)["findings"]
    assert {found["subject"] for found in findings} == {f"file {stray}" for stray in strays}
    assert {(found["level"], found["message"]) for found in findings} == {("warning", f"is not read: {RULE}")}


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without objects is more likely the wrong one than well."""
    (finding,) = json.loads(run(tmp_path, "check", "--no-proxy", "-o", "json").stdout)["findings"]
    assert (finding["level"], finding["message"]) == ("warning", f"there is none in {tmp_path}: {RULE}")


def test_no_folder(tmp_path: Path) -> None:
    """A file, and what does not exist, are told apart."""
    write(tmp_path, "file", "")
    assert str(run(tmp_path / "file", "get", "vs").exception) == f"--config-dir: {tmp_path}/file is no folder"
    assert str(run(tmp_path / "no", "get", "vs").exception) == f"--config-dir: {tmp_path}/no does not exist"


def test_place_that_fails_in_between(tmp_path: Path) -> None:
    """What was written before the place failed is told, and what was not."""
    objects, place = tmp_path / "objects", tmp_path / "place"
    write(objects, "upstreams/gloo-system/a.yaml", META + "static: {hosts: [{addr: a.example.com, port: 80}]}\n")
    for name in ("a", "b"):
        meta = META.replace("name: a", f"name: {name}")
        write(objects, f"virtualservices/gloo-system/{name}.yaml", meta + f"virtualHost: {{domains: [{name}]}}\n")
    write(place, "virtualservices", "a file where a folder belongs")

    result = run(place, "apply", str(objects))

    assert str(result.exception) == "2 objects could not be written"
    told = [line.split(None, 2)[2] for line in result.stdout.splitlines() if line.startswith(("Upstream", "Virtual"))]
    path = place / "virtualservices/gloo-system/a.yaml"
    assert told == ["created", f"failed: {path} cannot be written: Not a directory", "failed: not tried after that"]
