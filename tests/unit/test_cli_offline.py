"""Verbs that need no server: validate, translate, options, version, and what every verb has in common."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from gloo_nomad.cli.main import build_app
from gloo_nomad.frontdoor.tree import SUFFIXES

SEED = Path(__file__).parents[2] / "consul-kv-seed"
META = "metadata: {{namespace: gloo-system, name: {}}}\n"
VIRTUAL_SERVICE = (
    META.format("a")
    + """virtualHost:
  domains: [a.example.com]
  routes:
    - matchers: [{prefix: /}]
      directResponseAction: {status: 200, body: hello}
"""
)
VERBS = ["run", "validate", "translate", "bootstrap", "get", "apply", "delete", "check", "options", "version"]


def run(*arguments: str, **environ: str) -> Result:
    """Runs the command line in this process, 80 columns wide."""
    return CliRunner().invoke(build_app(), list(arguments), env={"COLUMNS": "80", **environ})


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Writes files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_valid_file(tmp_path: Path) -> None:
    """One loose file is valid by itself: the default Gateways are taken for granted."""
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE})
    result = run("validate", str(tmp_path / "a.yaml"))
    assert result.stdout == "1 object: 0 errors, 0 warnings\n"
    assert result.exit_code == 0


def test_seed_is_valid() -> None:
    """The seed has no errors; its certificate is in Vault, and so its content is not checked."""
    result = run("validate", str(SEED), "-o", "json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    seeded = [path for path in SEED.rglob("*") if path.suffix in SUFFIXES]
    assert answer["objects"] == len(seeded)
    assert {problem["severity"] for problem in answer["problems"]} <= {"warning"}
    assert any("is not at hand; its content is not checked" in problem["message"] for problem in answer["problems"])


def test_errors(tmp_path: Path) -> None:
    """Errors are listed with object, field and what helps, and end with exit code 1."""
    broken = VIRTUAL_SERVICE.replace("directResponseAction", "directRespons")
    write(tmp_path, {"a.yaml": broken, "b.yaml": "a: [", "c.yaml": VIRTUAL_SERVICE})
    result = run("validate", str(tmp_path), "-o", "json")
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert [(problem["kind"], problem["name"], problem["path"]) for problem in problems] == [
        ("Document", "b.yaml", ""),
        ("VirtualService", "a", "virtualHost.routes[0].directRespons"),
    ]
    assert problems[1]["message"].startswith('unknown field; did you mean "directResponseAction"?')
    assert problems[1]["message"].endswith(" (a.yaml)")


def test_warnings(tmp_path: Path) -> None:
    """Only warnings: exit code 0."""
    action = "routeAction: {single: {upstream: {namespace: gloo-system, name: missing}}}"
    text = VIRTUAL_SERVICE.replace("directResponseAction: {status: 200, body: hello}", action)
    write(tmp_path, {"a.yaml": text})
    result = run("validate", str(tmp_path))
    assert result.exit_code == 0
    assert result.stdout.endswith("1 object: 0 errors, 1 warning\n")


def test_twice(tmp_path: Path) -> None:
    """An object that is in two files is an error that names both."""
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE, "b.yaml": VIRTUAL_SERVICE})
    result = run("validate", str(tmp_path), "-o", "yaml")
    assert result.exit_code == 1
    messages = [problem["message"] for problem in yaml.safe_load(result.stdout)["problems"]]
    assert messages == ["is in a.yaml and again in b.yaml; keep one of them"]


def test_standard_input(tmp_path: Path) -> None:
    """A single dash reads standard input, also beside files."""
    write(tmp_path, {"u.yaml": META.format("u") + "static: {hosts: [{addr: 127.0.0.1, port: 80}]}"})
    runner = CliRunner()
    result = runner.invoke(build_app(), ["validate", "-", str(tmp_path)], input=VIRTUAL_SERVICE)
    assert result.stdout == "2 objects: 0 errors, 0 warnings\n"
    broken = runner.invoke(build_app(), ["validate", "-", "-o", "json"], input="a: [")
    assert json.loads(broken.stdout)["problems"][0]["name"] == "standard input"


def test_table_fits(tmp_path: Path) -> None:
    """At 80 columns no line of a table is longer, and no word of a message is lost."""
    name = "a-rather-long-name-of-a-virtual-service-as-people-have-them-in-production"
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE.replace("name: a}", f"name: {name}}}").replace("prefix: /", "regex: (")})
    result = run("validate", str(tmp_path))
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert max(len(line) for line in lines) <= 80
    assert lines[0].split() == ["SEVERITY", "OBJECT", "PROBLEM"]
    assert "".join(line[10:36].strip() for line in lines[1:-1]).endswith(f"gloo-system.{name}")


def test_table_in_a_pipe(tmp_path: Path) -> None:
    """In a pipe each problem is one line, without colours and without trailing blanks."""
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE.replace("prefix: /", "regex: (")})
    done = subprocess.run(
        [sys.executable, "-m", "gloo_nomad", "validate", str(tmp_path)], capture_output=True, text=True, check=False
    )
    header, problem, summary = done.stdout.splitlines()
    assert done.returncode == 1
    assert header.split() == ["SEVERITY", "OBJECT", "PROBLEM"]
    assert problem.startswith("error     VirtualService gloo-system.a  virtualHost.routes[0].matchers[0].regex: ")
    assert "\x1b" not in done.stdout
    assert problem == problem.rstrip()
    assert summary == "1 object: 1 error, 0 warnings"


@pytest.mark.parametrize("verb", ["validate", "translate", "apply"])
def test_no_such_path(verb: str, tmp_path: Path) -> None:
    """A path that does not exist, and a folder without objects, are one clear line."""
    result = run(verb, str(tmp_path / "nothing"))
    assert result.exit_code == 1
    assert "does not exist" in str(result.exception)
    result = run(verb, str(tmp_path))
    assert result.exit_code == 1
    assert "no object in" in str(result.exception)


def translated(*arguments: str) -> Any:
    """The resources of the default proxy."""
    result = run("translate", *arguments, "-o", "json")
    assert result.exit_code == 0
    return json.loads(result.stdout)["gloo-system~gateway-proxy"]


def test_translate(tmp_path: Path) -> None:
    """Envoy's resources come out by role, type and name, in JSON and in YAML alike."""
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE})
    resources = translated(str(tmp_path))
    (routes,) = [held for held in resources["routes"].values() if held.get("virtualHosts")]
    assert routes["virtualHosts"][0]["domains"] == ["a.example.com"]
    assert len(resources["listeners"]) >= 1
    as_yaml = run("translate", str(tmp_path))
    assert yaml.safe_load(as_yaml.stdout) == {"gloo-system~gateway-proxy": resources}
    assert set(translated(str(tmp_path), "--type", "routes")) == {"routes"}


def test_translate_again(tmp_path: Path) -> None:
    """The same files give the same text."""
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE, "b.yaml": META.format("u") + "static: {hosts: [{addr: h, port: 80}]}"})
    assert run("translate", str(tmp_path)).stdout == run("translate", str(tmp_path)).stdout


def test_translate_counts() -> None:
    """As a table it only counts."""
    result = run("translate", str(SEED), "-o", "table")
    assert result.stdout.splitlines()[0].split() == ["ROLE", "TYPE", "COUNT"]
    assert any(line.split() == ["gloo-system~gateway-proxy", "listeners", "2"] for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--type", "lusters", 'there is no type "lusters"; known are clusters, '),
        ("--role", "x~y", 'nothing is served to the role "x~y"; known are gloo-system~gateway-proxy'),
    ],
)
def test_translate_nothing(option: str, value: str, said: str) -> None:
    """A type or a role that does not exist is an error, and no empty answer."""
    result = run("translate", str(SEED), option, value)
    assert result.exit_code == 1
    assert str(result.exception).startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--xds", "9977"], '--xds: "9977" is not host:port'),
        (["--admin", "here"], '--admin: "here" is not host:port'),
        (["--role", "gateway-proxy"], '--role: "gateway-proxy" is not <namespace>~<proxy>'),
    ],
)
def test_bootstrap_of_nothing(arguments: list[str], said: str) -> None:
    """Addresses and roles that cannot be are refused, with an example."""
    result = run("bootstrap", *arguments)
    assert result.exit_code == 1
    assert str(result.exception).startswith(said)


def test_translate_shows_no_secret(tmp_path: Path) -> None:
    """Secrets of files are used and not shown."""
    secret = META.format("cert") + "tls: {certChain: canary-chain, privateKey: canary-key}"
    secured = VIRTUAL_SERVICE + "sslConfig: {secretRef: {namespace: gloo-system, name: cert}}\n"
    write(tmp_path, {"a.yaml": secured, "b.yaml": secret})
    result = run("translate", str(tmp_path))
    assert "canary" not in result.output


def test_translate_errors(tmp_path: Path) -> None:
    """What can be served is printed, problems go to standard error, and the exit code is 1."""
    good = VIRTUAL_SERVICE.replace("name: a}", "name: good}").replace("a.example.com", "good.example.com")
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE.replace("prefix: /", "regex: ("), "good.yaml": good})
    result = run("translate", str(tmp_path), "-o", "json")
    assert result.exit_code == 1
    assert "good.example.com" in result.stdout
    assert result.stderr.startswith("error: VirtualService gloo-system.a: virtualHost.routes[0].matchers[0].regex: ")


def test_translate_no_object(tmp_path: Path) -> None:
    """What is no object is named by its file."""
    write(tmp_path, {"a.yaml": VIRTUAL_SERVICE, "b.yaml": "a: ["})
    result = run("translate", str(tmp_path))
    assert result.stderr.startswith("error: b.yaml: not valid YAML: ")


def test_settings_among_the_files(tmp_path: Path) -> None:
    """A Settings object among the files is in force."""
    settings = META.format("default") + "discoveryNamespace: elsewhere\n"
    text = VIRTUAL_SERVICE.replace("gloo-system", "elsewhere")
    write(tmp_path, {"a.yaml": text, "settings.yaml": settings})
    result = run("translate", str(tmp_path), "-o", "json")
    assert list(json.loads(result.stdout)) == ["elsewhere~gateway-proxy"]


def test_options() -> None:
    """All options are listed; one is shown with its examples; a misspelt one is found."""
    result = run("options")
    assert result.exit_code == 0
    assert "retries" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    shown = run("options", "retries")
    assert "virtualHost" in shown.stdout
    assert "# Outcome" in shown.stdout
    cases = json.loads(run("options", "retries", "-o", "json").stdout)
    assert all(case["objects"] for case in cases)
    assert len(list(yaml.safe_load_all(run("options", "retries", "-o", "yaml").stdout))) == len(cases)
    wrong = run("options", "retrys")
    assert wrong.exit_code == 1
    assert str(wrong.exception) == 'there is no option "retrys"; did you mean "retries"? "gloo-nomad options" lists all'


def test_version() -> None:
    """The version is the first line, or the only one; the libraries' versions follow, and are there as JSON."""
    assert run("--version").stdout == "gloo-nomad 0.1.0\n"
    lines = run("version").stdout.splitlines()
    assert lines[0] == "gloo-nomad 0.1.0"
    assert {line.split()[0] for line in lines[1:]} == {"python", "grpcio", "protobuf", "xds-protos"}
    answer = json.loads(run("version", "-o", "json").stdout)
    assert answer["version"] == "0.1.0"
    assert set(answer["libraries"]) == {"grpcio", "protobuf", "xds-protos"}


def test_help_names_every_verb() -> None:
    """The help lists all verbs, each with a sentence, and fits into 80 columns."""
    result = run("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert f"│ {verb} " in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb: str) -> None:
    """Every verb has a sentence and an example that names it."""
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"gloo-nomad {verb}" in result.stdout.split("Example")[1]
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def command(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command line as a process."""
    line = [sys.executable, "-m", "gloo_nomad", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **environ})


def test_failure_is_one_line() -> None:
    """A command that fails says so in one line on standard error, and nothing else."""
    done = command("get", "nonsense")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith('gloo-nomad: "nonsense" is no kind; known are Gateway, ')


def test_wrong_usage() -> None:
    """A wrong command line is exit code 2 and one line that says what is wrong and how it is written."""
    for arguments, said in (
        (("gte",), "No such command 'gte'"),
        (("get", "vs", "--nope"), "No such option: --nope"),
        (("get",), "Missing argument 'KIND'"),
        (("get", "vs", "-o", "xml"), "'xml' is not one of 'table', 'json', 'yaml'"),
        (("validate",), "Missing argument 'PATH'"),
    ):
        done = command(*arguments)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert line.startswith("gloo-nomad: ")
        assert said in line
        assert " usage: gloo-nomad" in line
        assert "Value error" not in line


def test_alone() -> None:
    """Without arguments the command explains itself."""
    done = command()
    assert (done.returncode, done.stderr) == (0, "")
    assert "First steps" in done.stdout


def test_defect(tmp_path: Path) -> None:
    """An unexpected failure is one line and exit code 70; --debug shows where it was."""
    script = tmp_path / "broken.py"
    script.write_text(
        "import gloo_nomad.cli.offline as offline, gloo_nomad.cli.main as main\n"
        "def fail(paths): raise RuntimeError('first line\\nsecond line')\n"
        "offline.translate_paths = fail\n"
        "main.main()\n"
    )
    for extra, expected in (((), 1), (("--debug",), 10)):
        done = subprocess.run(
            [sys.executable, str(script), *extra, "validate", str(SEED)], capture_output=True, text=True, check=False
        )
        lines = done.stderr.splitlines()
        if extra:
            assert lines[0].startswith("Traceback")
            assert len(lines) >= expected
        else:
            assert done.returncode == 70
            assert lines == ["gloo-nomad: unexpected RuntimeError: first line (gloo-nomad --debug ... shows where)"]


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends a command with exit code 130 and without a traceback."""
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import gloo_nomad.cli.offline as offline, gloo_nomad.cli.main as main\n"
        "def fail(paths): raise KeyboardInterrupt\n"
        "offline.translate_paths = fail\n"
        "main.main()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), "validate", str(SEED)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_closed_pipe() -> None:
    """A reader who leaves early (head) causes no message."""
    line = f"{sys.executable} -m gloo_nomad translate {SEED} 2>/dev/null | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == "gloo-system~gateway-proxy:\n"
    assert done.stderr == ""
