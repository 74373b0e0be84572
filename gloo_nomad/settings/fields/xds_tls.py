"""Who may connect for configuration: certificates of the xDS port, and which client may have which role.

``xdsTls`` says where the server's certificate comes from: ``files`` (``xdsTlsCert``, ``xdsTlsKey``, and in
``xdsTlsClientCa`` who signs the clients' ones), ``vault`` (``xdsTlsVault``: ``role``, ``commonName`` and what a Secret
may ask a PKI engine for besides), ``dev`` (made in ``xdsTlsFolder``, for one machine) or ``plaintext``. Nothing written
is plain text as well, but only on a loopback address. ``xdsClientRoles`` maps identities to roles.
"""

from typing import Final

OWN: Final = {
    "xdsTls": "",
    "xdsTlsCert": "",
    "xdsTlsKey": "",
    "xdsTlsClientCa": "",
    "xdsTlsVault": {},
    "xdsTlsFolder": "",
    "xdsClientRoles": {},
}
OWN_FIXED: Final = tuple(OWN)
OWN_CHOICES: Final = {"xdsTls": ("files", "vault", "dev", "plaintext")}
