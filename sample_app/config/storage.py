"""Static files under names that carry a digest of their content, so that they may be cached for ever."""

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class HashedStaticFilesStorage(ManifestStaticFilesStorage):
    """Django's storage, which also rewrites `import … from "./x.js"` to the hashed names."""

    support_js_module_import_aggregation = True
