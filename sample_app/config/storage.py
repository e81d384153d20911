"""Static files whose names contain a digest of their content, so that caches may keep them."""

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class HashedStaticFilesStorage(ManifestStaticFilesStorage):
    """Django's storage, which also rewrites `import … from "./x.js"` to the hashed names."""

    support_js_module_import_aggregation = True
