"""Health checks by extensions are read from the first object on."""

import subprocess
import sys

import pytest

READ = """
import json
from gloo_nomad.api import codec
from gloo_nomad.api.kinds import UPSTREAM
from gloo_nomad.api.refs import Ref
check = {{"name": "x", "typedConfig": {{"@type": "type.googleapis.com/{name}"}}}}
document = {{"metadata": {{"name": "a", "namespace": "b"}}, "healthChecks": [{{"customHealthCheck": check}}]}}
decoded = codec.decode(UPSTREAM, json.dumps(document).encode(), Ref("b", "a"))
print(decoded.rejection)
"""


@pytest.mark.parametrize("extension", ["redis.v3.Redis", "thrift.v3.Thrift"])
def test_messages_of_extensions_are_known_to_a_program_that_just_began(extension: str) -> None:
    """The very first object may hold one; no option has been looked for by then."""
    code = READ.format(name=f"envoy.extensions.health_checkers.{extension}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "None"
