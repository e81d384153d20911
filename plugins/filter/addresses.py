"""Filters for addresses."""

from ansible_collections.django_asgi.site.plugins.module_utils.addresses import subject_names


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        return {"subject_names": subject_names}
