"""asgictl: the release state machine of a Django ASGI app on one host.

A release is a directory, an instance is a pair of systemd units, and the live release is the one that
`/opt/<app>/live` points to. Every command leaves the host in a state from which the next one can go on,
whatever kills it and whenever.
"""
