class LedgerRouter:
    """The app ledger lives in the database books, and nothing else does."""

    def db_for_read(self, model, **hints):
        return "books" if model._meta.app_label == "ledger" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (db == "books") == (app_label == "ledger")
