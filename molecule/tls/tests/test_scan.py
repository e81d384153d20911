"""A scan of the host whose certificate an authority has signed: no finding ranks above low."""

import json

import pytest

testinfra_hosts = ["ansible://bookworm"]

# Protocols, ciphers, their order, the certificate, headers and BREACH; testssl's other checks take minutes.
SCAN = (
    "HEADER_MAXSLEEP=60 testssl --quiet --warnings batch --color 0 --ip 127.0.0.1 --add-ca /tmp/root.pem"
    " -p -s -P -S -h --breach --jsonfile /tmp/findings.json https://sample.test:443"
)


@pytest.fixture(scope="module")
def findings(host) -> dict[str, str]:
    """Return the scanner's findings: id to severity."""
    host.check_output("curl --silent --insecure --output /tmp/root.pem https://localhost:15000/roots/0")
    host.run(f"rm -f /tmp/findings.json; {SCAN}")
    return {found["id"]: found["severity"] for found in json.loads(host.file("/tmp/findings.json").content_string)}


def test_nothing_ranks_above_low_but_what_the_labs_authority_leaves_out(findings):
    above = {name for name, severity in findings.items() if severity in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")}
    # Its certificates contain no revocation information.
    assert above == {"cert_revocation"}


@pytest.mark.parametrize("check", ["TLS1_2", "TLS1_3", "cipherlist_STRONG", "cipher_order", "cert_chain_of_trust", "BREACH"])
def test_the_scanner_has_looked_and_is_content(check, findings):
    assert findings[check] == "OK"
