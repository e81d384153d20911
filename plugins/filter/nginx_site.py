"""Filters of the role nginx_site."""

from ansible_collections.django_asgi.site.plugins.module_utils.nginx_host import abilities, plan, wishes
from ansible_collections.django_asgi.site.plugins.module_utils.nginx_site import (
    certificate_names,
    host_names,
    htpasswd,
    long_connections,
)


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        functions = (plan, abilities, wishes, certificate_names, host_names, htpasswd, long_connections)
        return {f"nginx_site_{function.__name__}": function for function in functions}
