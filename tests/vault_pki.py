"""A PKI engine of OpenBao, for tests: a root, an authority below it, and a role."""

from typing import Any

from gloo_nomad.demo.openbao import OpenBao


def enable_pki(bao: OpenBao, mount: str, *, max_ttl: str = "24h", allowed: str = "test") -> str:
    """Mounts an engine with an intermediate authority and the role ``gloo``; the root certificate as PEM."""
    above = f"{mount}-above"
    for name in (above, mount):
        bao.request("POST", f"sys/mounts/{name}", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
    generate, sign = "root/generate/internal", "root/sign-intermediate"
    made = bao.request("POST", f"{above}/{generate}", {"common_name": "root", "ttl": "8760h"}).json()
    asked = bao.request("POST", f"{mount}/intermediate/generate/internal", {"common_name": "authority"}).json()
    signing = {"csr": asked["data"]["csr"], "common_name": "authority", "ttl": "8000h"}
    signed = bao.request("POST", f"{above}/{sign}", signing).json()
    chain = "\n".join([signed["data"]["certificate"], made["data"]["certificate"]])
    bao.request("POST", f"{mount}/intermediate/set-signed", {"certificate": chain})
    role = {"allowed_domains": [allowed], "allow_subdomains": True, "allow_bare_domains": True, "max_ttl": max_ttl}
    bao.request("POST", f"{mount}/roles/gloo", {**role, "key_type": "ec", "key_bits": 256})
    certificate: str = made["data"]["certificate"]
    return certificate


def request(common_name: str, mount: str, **others: Any) -> dict[str, Any]:
    """The fields of a Secret that asks for a certificate."""
    return {
        "extensions": {"configs": {"pki": {"role": "gloo", "commonName": common_name, "mountPath": mount, **others}}}
    }
