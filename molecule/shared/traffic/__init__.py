"""HTTP and WebSocket load that counts every loss while deploys, kills and reboots happen.

The load comes from a separate process; each request and echo becomes a line of an event log, and the report is read
only from that log, so a test that crashes loses no record.

    with Traffic("http://127.0.0.1:8080", host="demo.test") as traffic:
        with traffic.window("deploy 1"):
            deploy()
        report = traffic.stop()
    print(report.table())
    report.assert_lossless()
"""

from .control import Traffic
from .model import Close, Exchange, Settings, Window
from .report import Report, Summary

__all__ = ["Close", "Exchange", "Report", "Settings", "Summary", "Traffic", "Window"]
