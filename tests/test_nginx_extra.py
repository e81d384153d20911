"""A site with directives of the user's own, without a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rendering
from test_nginx_tls import site, value
from test_nginx_traffic import ALL, locations

TEMPLATE = """\
    location = /robots.txt {
{% for name in nginx_site_server_names %}
        # {{ name }}
{% endfor %}
        return 200 "{{ robots }}{% raw %}{{ robots }}{% endraw %}";
    }
"""


@pytest.fixture
def extra(tmp_path: Path) -> dict[str, Any]:
    """The variables of a site with a template; what it writes is text, not another template."""
    (tmp_path / "extra.conf.j2").write_text(TEMPLATE)
    return {"inventory_dir": str(tmp_path), "nginx_site_extra_template": "extra.conf.j2", "robots": "Disallow: /"}


def test_the_text_is_the_end_of_the_sites_own_server_block(extra: dict[str, Any]) -> None:
    text = site(**extra, **ALL, nginx_site_tls="self_signed")
    found = locations(text)
    assert list(found)[-1] == "= /robots.txt"
    assert 'return 200 "Disallow: /{{ robots }}";' in found["= /robots.txt"]
    assert text.rstrip().endswith("    }\n\n}")
    assert text.count("robots.txt") == 1


def test_the_template_sees_the_hosts_variables(extra: dict[str, Any]) -> None:
    text = rendering.render(
        "nginx_site",
        "site.conf.j2",
        nginx_site_name="my-shop",
        nginx_site_server_names=["a.test", "b.test"],
        nginx_site_upstream_socket="/run/shop.sock",
        **extra,
    )
    assert "        # a.test\n        # b.test\n        return 200" in text
    assert "# From nginx_site_extra_template, extra.conf.j2:" in text


def test_without_a_template_nothing_is_added() -> None:
    assert "nginx_site_extra_template" not in site()


def test_a_refusal_has_nginxs_reason_the_file_and_the_variable(extra: dict[str, Any]) -> None:
    reason = 'nginx: [emerg] unknown directive "locaton" in /etc/nginx/sites-enabled/my-shop.conf:300'
    failed = {"ansible_failed_result": {"msg": "failed to validate", "stderr": reason + "\n"}}
    told = value("__nginx_site_refusal", **extra, **failed)
    assert told.startswith("/etc/nginx/sites-available/my-shop.conf was not written")
    assert reason in told
    assert f"Check nginx_site_extra_template, {extra['inventory_dir']}/extra.conf.j2," in told
    assert "nginx_site_extra_template" not in value("__nginx_site_refusal", **failed)


def test_a_refusal_without_nginxs_reason_has_ansibles() -> None:
    failed = {"ansible_failed_result": {"msg": "'robots' is undefined"}}
    assert "'robots' is undefined" in value("__nginx_site_refusal", **failed)
