"""The error message for a release that does not start."""

from variants import broken

testinfra_hosts = ["ansible://bookworm"]


def test_a_start_that_fails_is_told_with_the_last_line_of_its_traceback(playbook, site, tmp_path):
    before = site.release()
    output = playbook("release", fails=True, django_asgi_source=str(broken(tmp_path, "start")))
    assert "did not start; its last log lines show why" in output
    assert "RuntimeError: broken on purpose" in output
    assert site.release() == before
