"""The example inventory is valid unchanged, and its app finds its data. No host is contacted: its names don't exist."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLAYBOOK = f"""
- import_playbook: {ROOT}/playbooks/addresses.yml
- hosts: db:redis
  gather_facts: false
  vars: {{postgresql_server_owner: shop, redis_server_owner: shop}}
  tasks:
    - include_role: {{name: django_asgi.site.postgresql_server, tasks_from: validate}}
    - include_role: {{name: django_asgi.site.redis_server, tasks_from: validate}}
- hosts: app
  gather_facts: false
  tasks:
    - import_role: {{name: django_asgi.site.django_asgi, tasks_from: validate}}
    - import_role: {{name: django_asgi.site.nginx_site, tasks_from: validate}}
      vars: {{nginx_site_name: shop, nginx_site_upstream_socket: /run/shop.sock}}
    - debug: {{var: django_asgi_secrets}}
"""


def test_the_example_is_valid_and_its_app_finds_its_data(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", ROOT / "inventory/example", tmp_path / "play.yml"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    password = "replace-me-by-a-long-random-password"
    assert run.stdout.count(f"DATABASE_URL: postgresql://shop:{password}@10.0.0.21:5432/shop?sslmode=require") == 2
    assert run.stdout.count(f"CELERY_BROKER_URL: redis://:{password}@10.0.0.21:6381/0") == 2


def test_a_limit_that_leaves_the_data_hosts_out_is_explained() -> None:
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", ROOT / "inventory/example"]
    command += [ROOT / "playbooks/addresses.yml", "--limit", "web1.example.org"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = " ".join(run.stdout.split())
    assert "--limit leaves out data1.example.org." in said
    assert "--limit web1.example.org:db:redis" in said
