"""Ansible module that reads nginx's configuration, features and Debian files on a host."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: nginx_site_info
short_description: Read nginx's configuration and features on a host
description: Changes nothing, so it also runs in check mode. Without nginx every value is empty.
options: {}
author: The django_asgi maintainers
"""

RETURN = """
nginx:
  description:
    - "present: whether nginx is installed; broken: nginx's message if its configuration is not valid."
    - "configuration: all files that nginx reads, as nginx -T prints them; build: what nginx -V prints."
    - "from_debian: whether Debian's package is installed; changed_files: its files that were changed on the host."
    - "stock_link: the target of /etc/nginx/sites-enabled/default."
  returned: always
  type: dict
"""

NGINX = "/usr/sbin/nginx"
STOCK_LINK = Path("/etc/nginx/sites-enabled/default")


def main():
    """Print the facts."""
    module = AnsibleModule({}, supports_check_mode=True)
    facts = {"present": False, "broken": "", "configuration": "", "build": "", "from_debian": False, "changed_files": ""}
    facts["stock_link"] = str(STOCK_LINK.readlink()) if STOCK_LINK.is_symlink() else ""
    if Path(NGINX).exists():
        code, configuration, errors = module.run_command([NGINX, "-T", "-q"])
        unchanged, changed, _ = module.run_command(["dpkg", "--verify", "nginx-common"])
        facts |= {
            "present": True,
            "broken": errors if code else "",
            "configuration": configuration,
            "build": module.run_command([NGINX, "-V"])[2],
            # Without the package dpkg finds nothing and fails.
            "from_debian": unchanged == 0 or bool(changed),
            "changed_files": changed,
        }
    module.exit_json(changed=False, nginx=facts)


if __name__ == "__main__":
    main()
