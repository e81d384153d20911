"""Filters of the role lab."""

from ansible_collections.django_asgi.site.plugins.module_utils.lab import bases, images_of, reached, wanted_hosts


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        return {f"lab_{function.__name__}": function for function in (bases, wanted_hosts, images_of, reached)}
