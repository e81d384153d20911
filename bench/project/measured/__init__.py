"""The project that `make bench` measures: one view of each kind, and a consumer that echoes."""
