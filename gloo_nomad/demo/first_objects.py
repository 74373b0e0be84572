"""Writes the example objects and their certificate where there are none.

``python -m gloo_nomad.demo.first_objects SEED``. Consul and Vault are those of ``CONSUL_HTTP_ADDR`` and ``VAULT_ADDR``,
and may still be on their way up; a token that Vault refuses is not tried again. What exists is never overwritten: a
second start changes nothing.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import hvac
import requests
import tenacity

from gloo_nomad.api.kinds import SECRET
from gloo_nomad.api.refs import Ref
from gloo_nomad.clients.address import parse_address
from gloo_nomad.clients.consul import ConsulClient, ConsulOptions
from gloo_nomad.clients.http import WorldError
from gloo_nomad.clients.token import Token
from gloo_nomad.demo.certificates import Authority
from gloo_nomad.demo.first_certificate import DAYS, NAMES
from gloo_nomad.demo.processes import ServerError
from gloo_nomad.demo.seed import CERTIFICATE, read_seed

log = logging.getLogger("first_objects")

_patiently = tenacity.retry(
    retry=tenacity.retry_if_exception_type((WorldError, requests.RequestException, hvac.exceptions.VaultError))
    & tenacity.retry_if_not_exception_type(hvac.exceptions.Forbidden),
    wait=tenacity.wait_exponential_jitter(0.5, 5),
    stop=tenacity.stop_after_delay(90),
    before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
    reraise=True,
)


@_patiently
async def put_objects(seed: Path, environ: Mapping[str, str]) -> int:
    """Writes every object of the seed that has no key yet; how many those were."""
    address = parse_address(environ.get("CONSUL_HTTP_ADDR", "127.0.0.1:8500"), 8500)
    client = ConsulClient(ConsulOptions(address, Token(environ.get("CONSUL_HTTP_TOKEN", ""))))
    try:
        return sum([await client.kv_put(example.key, example.text.encode(), cas=0) for example in read_seed(seed)])
    finally:
        await client.close()


@_patiently
def put_certificate(environ: Mapping[str, str]) -> bool:
    """Writes the Secret that the seed's HTTPS virtual service asks for; False if it is there, or Vault is not used."""
    if not environ.get("VAULT_ADDR"):
        return False
    vault = hvac.Client(url=environ["VAULT_ADDR"], token=environ.get("VAULT_TOKEN", ""), timeout=5)
    namespace, name = CERTIFICATE
    payload = {
        "metadata": {"name": name, "namespace": namespace},
        **Authority().issue(*NAMES, days=DAYS).build_secret(),
    }
    try:
        vault.secrets.kv.v2.create_or_update_secret(SECRET.key("gloo", Ref(namespace, name)), payload, cas=0)
    except hvac.exceptions.InvalidRequest as refusal:
        if "check-and-set" not in str(refusal):
            raise
        return False
    return True


def main() -> int:
    """Writes all; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m gloo_nomad.demo.first_objects", description=__doc__)
    parser.add_argument("seed", type=Path)
    seed = parser.parse_args().seed
    try:
        written = asyncio.run(put_objects(seed, os.environ))
        certificate = put_certificate(os.environ)
    except (WorldError, ServerError, ValueError, requests.RequestException, hvac.exceptions.VaultError) as failure:
        print(f"the first objects cannot be written: {failure}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{written} objects written, {'a' if certificate else 'no'} certificate")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
