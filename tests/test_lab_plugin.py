"""The input of the program asgilab, images and hosts, and how the hosts are reached."""

from ansible_collections.django_asgi.site.plugins.module_utils.lab import bases, images_of, reached, wanted_hosts

MIRROR = "http://deb.example.org/debian"
CODENAMES = {"debian12": "bookworm", "debian13": "trixie"}
DEFAULTS = {"image": "", "base": "debian12", "publish_http": 0, "publish_https": 0}


def known(**changes: object) -> dict:
    """Return the base images, with changes to what they depend on."""
    given = {"mirror": MIRROR, "security": "", "packages": ["systemd"], "masked": ["x-generator"], "options": ["A::B 1;"]}
    return bases(CODENAMES, **given | changes)


def test_an_image_is_named_by_all_that_it_is_made_of() -> None:
    names = [known()["debian12"]["image"]]
    names += [known(**change)["debian12"]["image"] for change in (
        {"mirror": "http://other.example.org"}, {"security": MIRROR}, {"packages": ["dbus"]}, {"masked": []}, {"options": []},
    )]  # fmt: skip
    assert len(set(names)) == len(names)
    assert known() == known()
    assert known()["debian13"]["image"].startswith("localhost/asgilab:debian13-")


def test_an_image_is_built_from_the_mirrors() -> None:
    base = known(security="http://sec.example.org")["debian13"]
    assert base["sources"] == [
        f"deb {MIRROR} trixie main",
        f"deb {MIRROR} trixie-updates main",
        "deb http://sec.example.org trixie-security main",
    ]
    assert base["command"][0] == "mmdebstrap"
    assert base["command"][-1] == "trixie"
    assert "--aptopt=A::B 1;" in base["command"]
    assert MIRROR in base["advice"]


def test_a_host_is_what_it_says_itself_or_else_what_the_role_says() -> None:
    hostvars = {"one": {"lab_base": "debian13", "lab_publish_http": "8080"}, "two": {"lab_image": "localhost/own:1"}}
    hosts = wanted_hosts(["one", "two"], hostvars, DEFAULTS, known(), {"nofile": 1024, "nproc": -1}, ["x.service"])
    assert hosts["one"] == {
        "image": known()["debian13"]["image"],
        "http": 8080,
        "https": 0,
        "nofile": 1024,
        "nproc": 32768,
        "masked": ["x.service"],
    }
    assert hosts["two"]["image"] == "localhost/own:1"
    images = images_of(hosts, known())
    assert images == {known()["debian13"]["image"]: known()["debian13"], "localhost/own:1": {}}


def test_an_image_for_all_hosts_takes_precedence_over_the_base_that_a_host_names() -> None:
    hostvars = {"one": {"lab_base": "debian13"}, "two": {"lab_base": "debian12", "lab_image": "localhost/own:1"}}
    defaults = DEFAULTS | {"image": "localhost/ubuntu:24.04"}
    hosts = wanted_hosts(["one", "two"], hostvars, defaults, known(), {"nofile": 1024, "nproc": -1}, [])
    assert [host["image"] for host in hosts.values()] == ["localhost/ubuntu:24.04", "localhost/own:1"]
    assert images_of(hosts, known())["localhost/ubuntu:24.04"] == {}, "it is not built"


def test_a_host_is_reached_by_its_published_ports_and_known_by_its_key() -> None:
    hosts = {"one": {"ports": {"22": 2201, "80": 8080, "443": 8443}}}
    found = reached([{"item": "one", "stdout": "ssh-ed25519 AAAA"}], hosts)
    assert found == {"one": {"ssh": 2201, "http": 8080, "https": 8443, "key": "ssh-ed25519 AAAA"}}
