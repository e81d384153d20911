"""Validation: a wrong inventory is refused, each fault with the variable's name and what is expected, and no secret shown."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rendering import ROLES, argument_specs, defaults, faults

SECRET = "hunter2-the-secret"
ROLE_NAMES = ("django_asgi", "metrics", "nginx_site", "postgresql_server", "redis_server")
CACHE = {"name": "cache", "port": 6379, "password": SECRET, "policy": "allkeys-lru", "persistence": "none"}
GOOD = {
    "django_asgi": {"django_asgi_source": "https://example.org/team/shop.git"},
    "metrics": {"metrics_owner": "shop"},
    "nginx_site": {
        "nginx_site_name": "my-shop",
        "nginx_site_server_names": ["shop.example.org", "*.example.org", "[::1]"],
        "nginx_site_upstream_socket": "/opt/my-shop/live/socket",
    },
    "postgresql_server": {
        "postgresql_server_owner": "shop",
        "postgresql_server_databases": [{"name": "shop", "extensions": ["pg_trgm"]}, {"name": "my-shop", "owner": "clerk"}],
        "postgresql_server_roles": [{"name": "shop", "password": SECRET}],
    },
    "redis_server": {"redis_server_owner": "shop", "redis_server_instances": [CACHE]},
}
NUMBER = "a whole number from"
LETTER = "a lower-case letter, then up to"

# Each case: the variables, and the fault that is reported.
REFUSED = {
    "django_asgi": [
        ({"name": "Shop"}, f"name is Shop; expected {LETTER}"),
        ({"name": "a" * 32}, f"name is {'a' * 32}; expected {LETTER}"),
        ({"name": "shop.celery"}, "name is shop.celery; expected a lower-case letter"),
        ({"name": "a/b"}, "name is a/b; expected"),
        ({"project_dir": "/src"}, "project_dir is /src; expected a path inside the source"),
        ({"project_dir": "a/../.."}, "project_dir is a/../..; expected a path inside the source"),
        (
            {"source_subdirectory": "/srv/shop"},
            "source_subdirectory is /srv/shop; expected a directory inside the source, or nothing",
        ),
        ({"source_subdirectory": "shop/../.."}, "source_subdirectory is shop/../..; expected a directory inside the source"),
        ({"source_include": ["dist/**", "../dist"]}, "source_include has ../dist; expected patterns relative to the source"),
        ({"source_include": ["/srv/dist"]}, "source_include has /srv/dist; expected patterns relative to the source"),
        ({"git_key": "a\nb"}, "git_key is a\\nb; expected the path of a file on the controller"),
        ({"git_known_hosts": 7}, "git_known_hosts is 7; expected text"),
        ({"module": "config.asgi"}, "module is config.asgi; expected module:variable"),
        ({"settings_module": "config/settings.py"}, "settings_module is config/settings.py; expected a module's dotted name"),
        ({"python": 3.1}, "python is 3.1; expected text, so in quotes"),
        ({"python_downloads": "perhaps"}, "python_downloads is perhaps; expected true or false"),
        (
            {"python_downloads_json": "list.json"},
            "python_downloads_json is list.json; expected a URL, an absolute path on the host",
        ),
        ({"python_mirror": "/srv/pythons"}, "python_mirror is /srv/pythons; expected a URL, or nothing"),
        ({"source_version": 1.1}, "source_version is 1.1; expected text, so in quotes"),
        ({"source": 7}, "source is 7; expected text"),
        ({"requirements": 7}, "requirements is 7; expected text"),
        ({"build_commands": ["npm ci\nnpm run build"]}, "build_commands has npm ci\\nnpm run build; expected a program and its"),
        (
            {"build_commands": ["npm 'ci"]},
            "build_commands: npm 'ci can't be split into words (No closing quotation); expected quotes",
        ),
        ({"build_commands": [" "]}, "build_commands:   is empty; expected a program and its arguments"),
        ({"build_environment": {"NPM-TOKEN": SECRET}}, "build_environment has NPM-TOKEN; expected a name"),
        ({"build_environment": {"NPM_TOKEN": [SECRET]}}, "build_environment: NPM_TOKEN is not acceptable; expected text"),
        ({"build_seconds": 0}, f"build_seconds is 0; expected {NUMBER} 1 to 86400 seconds"),
        ({"build_excludes": ["web/node_modules"]}, "build_excludes has web/node_modules; expected names of directories"),
        ({"build_excludes": [".."]}, "build_excludes has ..; expected names of directories"),
        ({"prepare_commands": [["manage.py", "compress"]]}, "prepare_commands has ['manage.py', 'compress']; expected a program"),
        ({"prepare_commands": ["manage.py 'x"]}, "prepare_commands: manage.py 'x can't be split into words"),
        ({"after_commands": {"a": "b"}}, "after_commands is {'a': 'b'}; expected a list"),
        ({"after_commands": ["warm 'x"]}, "after_commands: warm 'x can't be split into words"),
        ({"workers": 0}, f"workers is 0; expected {NUMBER} 1 to 128, or auto"),
        ({"workers": 129}, "workers is 129; expected"),
        ({"workers": 1.5}, "workers is 1.5; expected"),
        ({"workers": "four"}, "workers is four; expected"),
        ({"workers": True}, "workers is True; expected"),
        ({"worker_class": "my class"}, "worker_class is my class; expected a class's dotted name"),
        ({"worker_long_connections": 60001}, f"worker_long_connections is 60001; expected {NUMBER} 0 to 60000"),
        ({"worker_connections": 60001}, f"worker_connections is 60001; expected {NUMBER} 1 to 60000"),
        ({"max_requests": -1}, "max_requests is -1; expected"),
        ({"max_requests_jitter": -5}, "max_requests_jitter is -5; expected"),
        ({"timeout": 1}, f"timeout is 1; expected {NUMBER} 2 to 3600 seconds"),
        ({"timeout": "long"}, "timeout is long; expected"),
        ({"graceful_timeout": 1.5}, "graceful_timeout is 1.5; expected"),
        ({"keepalive": 4}, "keepalive is 4; expected"),
        ({"gate_timeout": 0}, "gate_timeout is 0; expected"),
        ({"retire_seconds": -1}, "retire_seconds is -1; expected"),
        ({"retire_max": 0}, "retire_max is 0; expected"),
        ({"keep_releases": 1}, "keep_releases is 1; expected"),
        ({"program_seconds": 9}, "program_seconds is 9; expected"),
        ({"edge_settle_seconds": 61}, "edge_settle_seconds is 61; expected"),
        ({"edge_address": "localhost:80"}, "edge_address is localhost:80; expected an address such as http://"),
        ({"health_path": "healthz"}, "health_path is healthz; expected a path that begins with a slash"),
        ({"health_host": "shop example"}, "health_host is shop example; expected a host name"),
        ({"edge_names": ["a b"]}, "edge_names has a b; expected host names"),
        ({"health_status": 99}, "health_status is 99; expected"),
        ({"websocket_status": 0}, "websocket_status is 0; expected"),
        ({"websocket_subprotocol": "two, three"}, "websocket_subprotocol is two, three; expected a subprotocol"),
        ({"websocket_headers": {"X Name": "a"}}, "websocket_headers"),
        ({"websocket_path": "ws/"}, "websocket_path is ws/; expected a path that begins with a slash, or nothing"),
        ({"static_url": "/static"}, "static_url is /static; expected a path that starts and ends with a slash"),
        ({"path_prefix": "/shop/"}, "path_prefix is /shop/; expected a path that starts with a slash and does not end with one"),
        ({"path_prefix": "/a/../b"}, "path_prefix is /a/../b; expected a path that starts with a slash"),
        (
            {"path_prefix": "/shop", "worker_class": "shop.Worker"},
            "worker_class is shop.Worker; expected draining_worker.DrainingUvicornWorker, which alone serves below",
        ),
        ({"path_prefix": "/shop", "env": {"PYTHONPATH": "/x"}}, "env has PYTHONPATH; expected names besides PYTHONPATH"),
        (
            {"path_prefix": "/shop", "static_url": "/shop/static/"},
            "static_url is /shop/static/; expected a path without django_asgi_path_prefix, /shop, which comes before it",
        ),
        ({"static_url": "https://cdn.example.org/"}, "static_url is https://cdn.example.org/; expected"),
        ({"media_url": "media/"}, "media_url is media/; expected"),
        ({"release": "latest"}, "release is latest; expected a release's id of 12 hexadecimal digits"),
        ({"websocket_max_size": 1}, f"websocket_max_size is 1; expected {NUMBER} 128 to 1073741824 bytes"),
        ({"websocket_ping_interval": 0}, "websocket_ping_interval is 0; expected"),
        ({"websocket_ping_timeout": 0}, "websocket_ping_timeout is 0; expected"),
        ({"tasks_max": 10}, "tasks_max is 10; expected"),
        ({"limit_nofile": 100}, "limit_nofile is 100; expected"),
        ({"memory_max": "much"}, "memory_max is much; expected a size such as"),
        ({"memory_high": "1 GB"}, "memory_high is 1 GB; expected a size such as"),
        ({"shared_paths": ["/srv/files"]}, "shared_paths has /srv/files; expected paths relative to the source"),
        ({"shared_paths": ["files/../.."]}, "expected paths relative to the source"),
        ({"writable_paths": ["var"]}, "writable_paths has var; expected absolute paths"),
        ({"address_families": ["INET"]}, "address_families has INET; expected an address family"),
        ({"system_calls": ["a b"]}, "system_calls has a b; expected"),
        ({"socket_group": "My Group"}, "socket_group is My Group; expected the name of a group"),
        ({"system_packages": {"a": "b"}}, "system_packages is {'a': 'b'}; expected a list"),
        ({"requirements_extras": ["a b"]}, "requirements_extras has a b; expected names of extras"),
        ({"requirements_groups": ["--all"]}, "requirements_groups has --all; expected names of dependency groups"),
        ({"build_packages": ["Build It"]}, "build_packages has Build It; expected the name of a Debian package"),
        ({"system_packages": ["Lib PQ"]}, "system_packages has Lib PQ; expected the name of a Debian package"),
        ({"uv_environment": {"A B": "x"}}, "uv_environment has A B; expected a name"),
        ({"celery_app": "my-app"}, "celery_app is my-app; expected a module's dotted name"),
        ({"celery_concurrency": 0}, "celery_concurrency is 0; expected"),
        ({"celery_queues": ["a b"]}, "celery_queues has a b; expected names of queues"),
        ({"celery_stop_seconds": 0}, "celery_stop_seconds is 0; expected"),
        ({"celery_app": "config", "celery_beat_host": "nobody"}, "celery_beat_host is nobody; expected a host of the inventory"),
        ({"celery_ping_enabled": "perhaps"}, "celery_ping_enabled is perhaps; expected true or false"),
        ({"celery_beat_host": 7}, "celery_beat_host is 7; expected text"),
        ({"leader_host": "nobody"}, "leader_host is nobody; expected a host of the inventory"),
        ({"processes": [{"name": "a"}]}, "processes: a has no command"),
        ({"processes": [{"name": "celery", "command": "x"}]}, "processes has celery; expected names that nothing else has"),
        ({"processes": [{"name": "a", "command": "x 'y"}]}, "processes: a: command can't be split into words"),
        ({"processes": [{"name": "a", "command": "x", "hosts": "web1"}]}, "processes: a: hosts is web1; expected all or one"),
        ({"timers": [{"name": "a", "command": "x"}]}, "timers: a has no calendar"),
        (
            {"processes": [{"name": "a", "command": "x"}], "timers": [{"name": "a", "command": "x", "calendar": "daily"}]},
            "timers has a; expected names that nothing else has",
        ),
        ({"database_pool": -1}, "database_pool is -1; expected"),
        ({"database_max_connections": "many"}, "database_max_connections is many; expected"),
        (
            {"workers": 4, "database_pool": 10, "database_max_connections": 79},
            "database_pool is 10; expected a size that keeps all pools together within django_asgi_database_max_connections, 79; they",
        ),
        ({"sync_views": "wsgi"}, "sync_views is wsgi; expected"),
        ({"threads": 0}, f"threads is 0; expected {NUMBER} 1 to 256"),
        (
            {"sync_views": "one_hop", "workers": 4, "threads": 10, "database_max_connections": 79},
            "threads is 10; expected a number that keeps the threads' connections within django_asgi_database_max_connections, 79; they",
        ),
        ({"database_pool": 1, "database_max_connections": 9}, "auto counts as 128 workers: give a number"),
        ({"migrate_databases": ["two words"]}, "migrate_databases has two words; expected names of databases"),
        ({"migrate_lock_seconds": 0}, f"migrate_lock_seconds is 0; expected {NUMBER} 1 to 3600 seconds"),
        ({"backup_unit": "pg_dump shop"}, "backup_unit is pg_dump shop; expected a service's unit, such as"),
        ({"backup_unit": "backup.service", "backup_host": "nobody"}, "backup_host is nobody; expected a host of the inventory"),
        ({"backup_host": "host0"}, "backup_host is host0; expected a host of the inventory, and django_asgi_backup_unit set"),
        ({"backup_host": 7}, "backup_host is 7; expected text"),
        ({"env": {"MY-VAR": "x"}}, "env has MY-VAR; expected a name of letters"),
        ({"env": ["A=1"]}, "env is ['A=1']; expected names and their values"),
        ({"env": {"EMPTY": None}}, "env: EMPTY is empty; expected text, a number, true or false"),
        ({"env": {"HOSTS": ["a", "b"]}}, "env: HOSTS is ['a', 'b']; expected text, a number, true or false; write a list"),
        ({"secrets": {"KEYS": {"a": SECRET}}}, "secrets: KEYS is not acceptable; expected text, a number, true or false"),
        ({"env": {"STATIC_ROOT": "/x"}}, "env has STATIC_ROOT; expected names that are neither the role's own"),
        ({"env": {"TOKEN": "x"}, "secrets": {"TOKEN": SECRET}}, "nor in django_asgi_secrets."),
        ({"secrets": {"MY VAR": SECRET}}, "secrets has MY VAR; expected a name"),
        ({"secrets": {"APP_RELEASE": SECRET}}, "secrets has APP_RELEASE; expected names that are not the role's own"),
        ({"secrets": {"PIN": "q7z"}}, "secrets: PIN is not acceptable; expected 4 characters or more"),
        ({"secrets": SECRET}, "secrets is not acceptable; expected names and their values"),
        ({"collectstatic": "perhaps"}, "collectstatic is perhaps; expected true or false"),
        ({"migrate": "sometimes"}, "migrate is sometimes; expected one of once, each, never"),
        ({"health_scheme": "ftp"}, "health_scheme is ftp; expected one of http, https"),
        ({"remove_confirm": 7}, "remove_confirm is 7; expected text"),
        ({"worker": 2}, "worker is not a variable of the role django_asgi; did you mean django_asgi_workers?"),
        ({"zzz": 1}, "zzz is not a variable of the role django_asgi."),
        ({"source": "nowhere"}, "source is nowhere; expected a directory or an archive on this machine, or a git address"),
        ({"source": "/nowhere/shop.tar.gz"}, "source is /nowhere/shop.tar.gz; expected a directory"),
    ],
    "metrics": [
        ({"owner": ""}, "owner is empty; expected a lower-case letter"),
        ({"listen_adress": "::1"}, "listen_adress is not a variable of the role metrics; did you mean metrics_listen_address?"),
        ({"listen_address": "localhost"}, "listen_address is localhost; expected an address"),
        ({"listen_address": "10.0.0.5"}, "allowed_addresses is empty; expected those that may read from 10.0.0.5"),
        ({"listen_address": "0.0.0.0"}, "allowed_addresses is empty; expected those that may read from 0.0.0.0"),
        ({"allowed_addresses": ["any"]}, "allowed_addresses has any; expected an address or a network"),
        ({"allowed_addresses": ["999.9.9.9"]}, "allowed_addresses has 999.9.9.9; expected an address or a network"),
        ({"node_exporter_arguments": ["--x=$(reboot)"]}, "node_exporter_arguments has --x=$(reboot); expected one argument"),
        ({"node_exporter_arguments": ["--a --b"]}, "node_exporter_arguments has --a --b; expected one argument"),
        ({"interval_seconds": 0}, f"interval_seconds is 0; expected {NUMBER} 1 to 3600 seconds"),
        ({"requests_port": 9100}, "requests_port is 9100, which metrics_node_exporter_port already uses"),
        ({"node_exporter_port": 0}, "node_exporter_port is 0; expected"),
        ({"nginx_exporter_port": 0}, "nginx_exporter_port is 0; expected"),
        ({"nginx_status_port": 0}, "nginx_status_port is 0; expected"),
        ({"requests_enabled": "maybe"}, "requests_enabled is maybe; expected true or false"),
        ({"requests_buckets": []}, "requests_buckets is empty; expected at least 1: a number of seconds"),
        ({"requests_buckets": [1, 0.5]}, "requests_buckets is [1, 0.5]; expected each number to be larger"),
        ({"apt_cache_valid_time": -1}, "apt_cache_valid_time is -1; expected"),
        ({"nginx_tool": "nginx-site"}, "nginx_tool is nginx-site; expected an absolute path"),
    ],
    "nginx_site": [
        ({"lisen": 80}, "lisen is not a variable of the role nginx_site; did you mean nginx_site_listen?"),
        ({"name": "My_shop"}, "name is My_shop; expected a lower-case letter"),
        ({"name": "shop\n"}, "name is shop"),
        ({"server_names": []}, "server_names is empty; expected at least 1: a host name"),
        ({"server_names": ["https://shop.example.org"]}, "server_names has https://shop.example.org; expected"),
        (
            {"server_names": ["shop.example.org; return 200"]},
            "server_names has shop.example.org; return 200; expected a host name",
        ),
        ({"server_names": ["shop.example.org:8080"]}, "without scheme and port"),
        ({"server_names": ["..example.org"]}, "server_names has ..example.org; expected a host name"),
        ({"server_names": ["a.test", "A.test"]}, "server_names has a.test more than once"),
        ({"server_names": ["a.test", ".a.test"]}, "server_names has a.test more than once (.example.org includes example.org)"),
        ({"redirect_names": ["www.a.test/"]}, "redirect_names has www.a.test/; expected a host name"),
        ({"redirect_names": ["Shop.example.org"]}, "redirect_names has shop.example.org; expected names that are neither in"),
        ({"server_names": ["*.a.test"], "redirect_names": ["b.test"]}, "server_names has *.a.test; expected a single name first"),
        (
            {"server_names": [".a.test"], "health_allowed": ["10.0.0.0/8"], "health_path": "/x"},
            "server_names has .a.test; expected a single name first, which nginx_site_health_allowed needs",
        ),
        ({"health_allowed": ["10.0.0.0/8"]}, "health_allowed has no meaning without nginx_site_health_path"),
        ({"health_allowed": ["lb"], "health_path": "/x"}, "health_allowed has lb; expected an address or a network"),
        ({"listen": 0}, f"listen is 0; expected {NUMBER} 1 to 65535"),
        ({"listen": "http"}, "listen is http; expected"),
        ({"listen_tls": 0}, "listen_tls is 0; expected"),
        ({"package": "Nginx"}, "package is Nginx; expected the name of a Debian package"),
        ({"apt_cache_valid_time": -1}, "apt_cache_valid_time is -1; expected"),
        ({"upstream_socket": "/" + "x" * 107}, "107 characters"),
        ({"upstream_socket": "run/shop.sock"}, "upstream_socket is run/shop.sock; expected an absolute path"),
        ({"upstream_keepalive": 0}, "upstream_keepalive is 0; expected"),
        ({"upstream_keepalive_time": 5}, "upstream_keepalive_time is 5; expected an nginx time"),
        ({"upstream_keepalive_timeout": "x"}, "upstream_keepalive_timeout is x; expected an nginx time"),
        ({"proxy_connect_timeout": "x"}, "proxy_connect_timeout is x; expected an nginx time"),
        ({"proxy_read_timeout": "x"}, "proxy_read_timeout is x; expected an nginx time"),
        ({"proxy_buffer_size": 0}, "proxy_buffer_size is 0; expected an nginx size above 0"),
        ({"websocket_timeout": "x"}, "websocket_timeout is x; expected an nginx time"),
        ({"events_timeout": "long"}, "events_timeout is long; expected an nginx time"),
        ({"client_max_body_size": "10 MB"}, "client_max_body_size is 10 MB; expected an nginx size"),
        ({"client_header_buffer_size": "0"}, "above 0"),
        ({"client_body_buffer_size": "0"}, "above 0"),
        ({"client_body_temp_path": "tmp"}, "client_body_temp_path is tmp; expected an absolute path"),
        ({"client_header_timeout": "x"}, "client_header_timeout is x; expected an nginx time"),
        ({"client_body_timeout": "x"}, "client_body_timeout is x; expected an nginx time"),
        ({"client_send_timeout": "x"}, "client_send_timeout is x; expected an nginx time"),
        ({"client_keepalive_timeout": "x"}, "client_keepalive_timeout is x; expected an nginx time"),
        ({"large_client_header_buffers": "8k"}, "large_client_header_buffers is 8k; expected a number and a size"),
        ({"path_prefix": "shop"}, "path_prefix is shop; expected a path that starts with a slash and does not end with one"),
        ({"static_url": "/"}, "starts and ends with a slash"),
        ({"static_url": "/static"}, "static_url is /static; expected a path that starts and ends with a slash"),
        ({"static_directories": ["static"]}, "static_directories has static; expected an absolute path"),
        ({"static_immutable_patterns": ['"; return 200']}, "without quotation marks"),
        ({"static_max_age": -1}, "static_max_age is -1; expected"),
        ({"media_url": "media"}, "media_url is media; expected"),
        ({"media_directory": "media"}, "media_directory is media; expected an absolute path"),
        ({"media_max_age": -1}, "media_max_age is -1; expected"),
        ({"gzip_comp_level": 10}, f"gzip_comp_level is 10; expected {NUMBER} 1 to 9"),
        ({"gzip_min_length": -1}, "gzip_min_length is -1; expected"),
        ({"gzip_types": ["*"]}, "gzip_types has *; expected a media type"),
        ({"gzip_enabled": "maybe"}, "gzip_enabled is maybe; expected true or false"),
        ({"max_connections": -1}, "max_connections is -1; expected"),
        ({"max_connections_per_address": -1}, "max_connections_per_address is -1; expected"),
        ({"max_long_connections": -1}, "max_long_connections is -1; expected"),
        (
            {"max_connections": 99, "max_long_connections": 10, "upstream_long_connections": 9},
            "max_long_connections is 10; expected at most nginx_site_upstream_long_connections, 9, because the application refuses",
        ),
        (
            {"max_connections": 131579},
            "max_connections is 131579; expected at most 250000 together with the long connections, 118422",
        ),
        (
            {"max_connections": 128000, "upstream_long_connections": 7680000},
            "expected at most 250000 together with the long connections, 6912000, because a single nginx worker may get all of them",
        ),
        ({"max_long_connections_per_address": -1}, "max_long_connections_per_address is -1; expected"),
        ({"upstream_long_connections": -1}, "upstream_long_connections is -1; expected"),
        ({"request_rate": "fast"}, "request_rate is fast; expected"),
        ({"request_burst": -1}, "request_burst is -1; expected"),
        ({"request_rate_per_address": -1}, "request_rate_per_address is -1; expected"),
        ({"request_burst_per_address": -1}, "request_burst_per_address is -1; expected"),
        ({"worker_connections": 1}, "worker_connections is 1; expected"),
        ({"worker_open_files": 8192}, "worker_open_files is 8192; expected at least twice nginx_site_worker_connections"),
        (
            {"worker_shutdown_timeout": "never"},
            "worker_shutdown_timeout is never; expected an nginx time such as 500ms, 10s, 5m or 1h, or nothing",
        ),
        ({"trusted_proxies": ["lb.example.org"]}, "trusted_proxies has lb.example.org; expected an address or a network"),
        ({"trusted_proxies": ["10.0.0.0/8; deny all"]}, "expected an address or a network"),
        ({"real_ip_header": "X Forwarded"}, "real_ip_header is X Forwarded; expected the name of a header"),
        ({"proxy_protocol_enabled": True}, "trusted_proxies is empty; expected the addresses that speak the PROXY protocol"),
        ({"client_max_body_sizes": {"/x": "1 GB"}}, "client_max_body_sizes: /x is 1 GB; expected an nginx size"),
        ({"client_max_body_sizes": {"~ /x": "1g"}}, "client_max_body_sizes has ~ /x; expected a path that begins with a slash"),
        ({"security_headers": {"X Own": "a"}}, "security_headers has X Own; expected the name of a header"),
        ({"security_headers": {"X-Own": 'a" always; add_header B "b'}}, "without quotation marks"),
        ({"protected_url": "/protected"}, "starts and ends with a slash"),
        ({"protected_url": "/protected/"}, "protected_directory is empty; expected the directory of the files below /protected/"),
        ({"protected_directory": "x"}, "protected_directory is x; expected an absolute path"),
        ({"basic_auth_users": {"a:b": SECRET}}, "basic_auth_users has a:b; expected names of letters"),
        ({"basic_auth_users": {"#a": SECRET}}, "expected names of letters"),
        (
            {"basic_auth_users": {"anna": "q7z"}},
            "basic_auth_users: anna is not acceptable; expected text (in quotes) of at least 8",
        ),
        ({"extra_template": "none.conf.j2"}, "extra_template is none.conf.j2; expected a file on the controller"),
        ({"extra_template": 'a"b'}, 'extra_template is a"b; expected the path of a file on the controller'),
        ({"basic_auth_users": SECRET}, "basic_auth_users is not acceptable; expected names and their values"),
        ({"health_path": "x"}, "health_path is x; expected a path that begins with a slash"),
        ({"maintenance_file": "x"}, "maintenance_file is x; expected an absolute path"),
        ({"maintenance_text": "It's closed"}, "without quotation marks"),
        ({"maintenance_text": "<b>closed</b>"}, "angle brackets"),
        ({"maintenance_retry_after": 0}, "maintenance_retry_after is 0; expected"),
        ({"maintenance_addresses": ["me"]}, "maintenance_addresses has me; expected an address or a network"),
        ({"maintenance_paths": ["x"]}, "maintenance_paths has x; expected a path that begins with a slash"),
        ({"access_log_max_size": "100 MB"}, "access_log_max_size is 100 MB; expected a size"),
        ({"access_log_rotations": -1}, "access_log_rotations is -1; expected"),
        ({"tls": "letsencrypt"}, "tls is letsencrypt; expected off, self_signed, files or acme"),
        ({"tls": "self_signed", "listen_tls": 80}, "listen_tls is 80; expected another port than nginx_site_listen"),
        ({"tls_public_port": 70000}, "tls_public_port is 70000; expected"),
        ({"http3_enabled": True}, "http3_enabled has no meaning without nginx_site_tls"),
        ({"hsts_max_age": 60}, "hsts_max_age has no meaning without nginx_site_tls"),
        ({"hsts_max_age": -1}, "hsts_max_age is -1; expected"),
        ({"hsts_preload_enabled": True}, "hsts_preload_enabled has no meaning without nginx_site_hsts_max_age"),
        ({"tls_profile": "old"}, "tls_profile is old; expected intermediate or modern"),
        ({"tls": "acme", "server_names": ["192.0.2.1"]}, "signs no address over HTTP"),
        ({"tls": "acme", "server_names": ["*.a.test"]}, "server_names has *.a.test; expected names that an authority can find"),
        ({"tls": "acme", "server_names": [".a.test"]}, "server_names has *.a.test; expected names that an authority can find"),
        (
            {"tls": "acme", "server_names": ["a.test"], "redirect_names": ["*.b.test"]},
            "redirect_names has *.b.test; expected names that an authority can find",
        ),
        (
            {"tls": "acme", "server_names": ["a.test"], "acme_ca_file": "/nowhere"},
            "acme_ca_file is /nowhere; expected a file on the controller",
        ),
        ({"acme_ca_file": 'a"b'}, "acme_ca_file is a"),
        (
            {"acme_directory_url": "http://a.test"},
            "acme_directory_url is http://a.test; expected an address that begins with https://",
        ),
        ({"acme_email": "me"}, "acme_email is me; expected an address such as"),
        ({"tls": "files"}, "tls_certificate_file is empty; expected a file on the controller"),
        ({"tls_key_file": 'a"b'}, "tls_key_file is a"),
        ({"tls_certificate_file": 'a"b'}, "tls_certificate_file is a"),
    ],
    "postgresql_server": [
        ({"database": []}, "database is not a variable of the role postgresql_server; did you mean postgresql_server_databases?"),
        ({"owner": ""}, "owner is empty; expected a lower-case letter"),
        ({"databases": "shop"}, "databases is not a list; expected entries, each with name"),
        ({"databases": [{"owner": "shop"}]}, "databases: an entry has no name"),
        ({"databases": [{"name": "Shop; drop"}]}, "databases: Shop; drop: name is Shop; drop; expected a lower-case letter"),
        (
            {"databases": [{"name": "postgres"}]},
            "databases has postgres; expected another name, because that one belongs to PostgreSQL",
        ),
        ({"databases": [{"name": "a"}, {"name": "a"}]}, "databases has two entries with the same name, a"),
        ({"databases": [{"name": "a", "user": "a"}]}, "databases: a: user is not known; expected one of name, owner"),
        ({"roles": [{"name": "a", "password": 12345678}]}, "roles: a: password is not acceptable; expected text (in quotes)"),
        ({"roles": [{"name": "a", "databases": ["elsewhere"]}]}, "roles: a: databases has elsewhere; expected one of"),
        ({"roles": [{"name": "a", "addresses": ["web1"]}]}, "roles: a: addresses has web1; expected an address or a network"),
        ({"roles": [{"name": "a", "connection_limit": "few"}]}, "roles: a: connection_limit is few; expected"),
        ({"port": "5432x"}, "port is 5432x; expected"),
        ({"max_connections": 2}, f"max_connections is 2; expected {NUMBER} 5"),
        ({"memory_mb": -1}, "memory_mb is -1; expected"),
        ({"encoding": "utf8"}, "encoding is utf8; expected an encoding"),
        ({"locale": "de DE"}, "locale is de DE; expected a locale"),
        ({"listen_addresses": ["a b"]}, "listen_addresses has a b; expected"),
        ({"allowed_addresses": ["all"]}, "allowed_addresses has all; expected an address or a network"),
        (
            {"allowed_addresses": ["10.0.0.1"]},
            "allowed_addresses is ['10.0.0.1']; expected postgresql_server_listen_addresses too",
        ),
        ({"address": "10.0.0.5"}, "address can't be reached while postgresql_server_listen_addresses is empty"),
        ({"address": "a b"}, "address is a b; expected"),
        ({"tls_key": "/etc/key"}, "tls_key goes with postgresql_server_tls_certificate; expected both, or none"),
        ({"tls_key": "key"}, "tls_key is key; expected an absolute path"),
        ({"tls_certificate": "crt"}, "tls_certificate is crt; expected an absolute path"),
        ({"settings": {"port": 1}}, "settings: port has a variable of its own; expected postgresql_server_port"),
        ({"settings": {"jit": None}}, "settings: jit is empty; expected a text on one line, a number"),
        ({"settings": {"a b": 1}}, "settings has a b; expected the name of a setting"),
        ({"backup_schedule": "often\n"}, "OnCalendar"),
        ({"backup_keep": 0}, "backup_keep is 0; expected"),
        ({"backup_keep_days": -1}, "backup_keep_days is -1; expected"),
        ({"backup_directory": "/"}, "backup_directory is /; expected an absolute path below a directory"),
        ({"backup_metrics_directory": "x"}, "backup_metrics_directory is x; expected an absolute path"),
        ({"backup_random_delay": "soon"}, "backup_random_delay is soon; expected a systemd time such as"),
        ({"backup_timeout": "soon"}, "backup_timeout is soon; expected a systemd time such as"),
        ({"backup_enabled": "maybe"}, "backup_enabled is maybe; expected true or false"),
        ({"version": "9.6"}, "version is 9.6; expected a major version"),
        ({"sslmode": "prefer"}, "sslmode is prefer; expected one of disable, require, verify-ca, verify-full"),
        ({"apt_cache_valid_time": -1}, "apt_cache_valid_time is -1; expected"),
    ],
    "redis_server": [
        ({"instance": 1}, "instance is not a variable of the role redis_server; did you mean redis_server_instances?"),
        ({"owner": ""}, "owner is empty; expected a lower-case letter"),
        ({"flavour": "keydb"}, "flavour is keydb; expected one of redis, valkey"),
        ({"databases": "many"}, "databases is many; expected"),
        ({"socket_mode": "rw"}, "socket_mode is rw; expected a mode"),
        ({"tls_key": "/etc/key"}, "tls_key goes with redis_server_tls_certificate; expected both, or none"),
        ({"tls_key": "key"}, "tls_key is key; expected an absolute path"),
        ({"tls_certificate": "crt"}, "tls_certificate is crt; expected an absolute path"),
        ({"overcommit_enabled": "maybe"}, "overcommit_enabled is maybe; expected true or false"),
        ({"address": "a b"}, "address is a b; expected an address or a host name"),
        ({"bind": ["eth0"]}, "bind has eth0; expected an address"),
        ({"maxmemory": "2 GB"}, "maxmemory is 2 GB; expected a size"),
        ({"policy": "lru"}, "policy is lru; expected"),
        ({"persistence": "disk"}, "persistence is disk; expected"),
        ({"settings": {"A": 1}}, "settings has A; expected the name of a setting"),
        ({"apt_cache_valid_time": -1}, "apt_cache_valid_time is -1; expected"),
        ({"instances": []}, "instances is not a list of at least 1; expected entries, each with name"),
        ({"instances": ["cache"]}, "instances is not a list of at least 1; expected entries, each with name"),
        ({"instances": [CACHE, {"name": "cache"}]}, "instances has two entries with the same name, cache"),
        ({"instances": [CACHE, {"name": "other", "port": "6379"}]}, "instances has two entries with the same port, 6379"),
        (
            {"instances": [{"name": "a", "port": 1}], "bind": ["127.0.0.1", "10.0.0.5"]},
            "instances: a has no password; expected one",
        ),
        *(
            ({"instances": [CACHE | change]}, f"instances: {change.get('name', 'cache')}: {sentence}")
            for change, sentence in (
                ({"name": "My-cache"}, "name is My-cache; expected a lower-case letter"),
                ({"port": 70000}, "port is 70000; expected"),
                ({"password": 12345678}, "password is not acceptable; expected text (in quotes)"),
                ({"password": "short"}, "password is not acceptable; expected text (in quotes) of at least 8"),
                ({"policy": "lru"}, "policy is lru; expected a Redis policy"),
                ({"persistence": "disk"}, "persistence is disk; expected none, rdb or aof"),
                ({"maxmemory": "2 GB"}, "maxmemory is 2 GB; expected a size"),
                ({"bind": "eth0"}, "bind is eth0; expected an address"),
                ({"databases": 0}, "databases is 0; expected"),
                ({"tls": "maybe"}, "tls is maybe; expected true or false"),
                ({"memory": "1gb"}, "memory is not known; expected one of name"),
                ({"settings": {"requirepass": "x"}}, "settings: requirepass is set by redis_server_instances"),
                ({"settings": {"timeout": "1\nport 1"}}, "settings: timeout is 1"),
            )
        ),
    ],
}
CASES = [(role, changes, sentence) for role, cases in REFUSED.items() for changes, sentence in cases]

DJANGO_ACCEPTED = {
    "nothing but a source": {},
    "a git address": {"django_asgi_source": "https://example.org/team/shop.git"},
    "an ssh address": {"django_asgi_source": "git@example.org:team/shop.git"},
    "an archive": {"django_asgi_source": "shop.tar.gz"},
    "numbers as text, as -e gives them": {"django_asgi_workers": "4", "django_asgi_timeout": "60"},
    "the least": {
        "django_asgi_workers": 1,
        "django_asgi_worker_connections": 1,
        "django_asgi_timeout": 2,
        "django_asgi_graceful_timeout": 1,
        "django_asgi_keepalive": 5,
        "django_asgi_gate_timeout": 1,
        "django_asgi_retire_seconds": 0,
        "django_asgi_retire_max": 1,
        "django_asgi_keep_releases": 2,
        "django_asgi_edge_settle_seconds": 0,
    },
    "the most": {
        "django_asgi_name": "a" * 31,
        "django_asgi_workers": 128,
        "django_asgi_worker_connections": 60000,
        "django_asgi_timeout": 3600,
        "django_asgi_graceful_timeout": 86400,
        "django_asgi_keepalive": 3600,
        "django_asgi_gate_timeout": 3600,
        "django_asgi_edge_settle_seconds": 60,
    },
    "everything that a site needs": {
        "django_asgi_name": "shop-2",
        "django_asgi_project_dir": "backend",
        "django_asgi_python": "3.13",
        "django_asgi_system_packages": ["libpq5"],
        "django_asgi_env": {"DEBUG": False, "PORT": 5432, "_X": ""},
        "django_asgi_secrets": {"DATABASE_URL": SECRET, "PIN": 1234},
        "django_asgi_health_path": "/healthz",
        "django_asgi_websocket_path": "/ws/chat/",
        "django_asgi_media_url": "/media/",
        "django_asgi_migrate": "each",
        "django_asgi_backup_unit": "postgresql-backup@shop.service",
        "django_asgi_backup_host": "host0",
        "django_asgi_collectstatic": "no",
        "django_asgi_build_commands": ["npm ci", "sh -c 'npm run build >/dev/null'"],
        "django_asgi_build_environment": {"NODE_ENV": "production", "CI": True},
        "django_asgi_build_excludes": ["node_modules", ".parcel-cache"],
        "django_asgi_prepare_commands": "manage.py compilemessages",
        "django_asgi_after_commands": ["manage.py warm_cache"],
        "django_asgi_release": "0123456789ab",
    },
}

ACCEPTED = [
    *(("django_asgi", changes) for changes in DJANGO_ACCEPTED.values()),
    *((role, {}) for role in ROLE_NAMES),
    # With auto workers the other two are known only on the host.
    ("nginx_site", {"nginx_site_max_long_connections": 10}),
    ("nginx_site", {"nginx_site_max_connections": 131578}),
    ("metrics", {"metrics_listen_address": "::1"}),
    ("metrics", {"metrics_listen_address": "0.0.0.0", "metrics_allowed_addresses": ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]}),
    ("metrics", {"metrics_node_exporter_arguments": ["--collector.systemd", "--collector.netdev.device-exclude=^veth.*"]}),
    ("metrics", {"metrics_requests_buckets": [0.1, 1, 10], "metrics_requests_enabled": "no"}),
    (
        "nginx_site",
        {"nginx_site_static_directories": ["/opt/a/live/static/"], "nginx_site_gzip_enabled": "no", "nginx_site_listen": "8080"},
    ),
    ("nginx_site", {"nginx_site_trusted_proxies": "10.0.0.0/8"}),
    ("nginx_site", {"nginx_site_path_prefix": "/eu/shop.v2"}),
    ("django_asgi", {"django_asgi_path_prefix": "/shop", "django_asgi_media_url": "/shopping/"}),
    ("nginx_site", {"nginx_site_server_names": ["a.test", "*.a.test", ".b.test"], "nginx_site_redirect_names": ["www.a.test"]}),
    (
        "postgresql_server",
        {
            "postgresql_server_listen_addresses": ["localhost", "10.0.0.5"],
            "postgresql_server_allowed_addresses": ["10.0.0.11", "10.1.0.0/16", "fd00::1"],
            "postgresql_server_address": "10.0.0.5",
            "postgresql_server_port": "5433",
            "postgresql_server_tls_enabled": "no",
            "postgresql_server_urls": {},
        },
    ),
    ("redis_server", {"redis_server_instances": [CACHE, {"name": "queue"}]}),
    ("redis_server", {"redis_server_instances": [{"name": "cache", "port": 1}]}),
    ("redis_server", {"redis_server_instances": [{"name": "cache"}], "redis_server_bind": ["*"]}),
]


@pytest.mark.parametrize(("role", "changes", "sentence"), CASES)
def test_a_wrong_inventory_is_refused(role: str, changes: dict, sentence: str) -> None:
    told = faults(role, **GOOD[role] | {f"{role}_{name}": value for name, value in changes.items()})
    assert sentence in told
    assert all(line.startswith(f"{role}_") for line in told.splitlines())
    assert SECRET not in told
    assert "q7z" not in told


@pytest.mark.parametrize(("role", "changes"), ACCEPTED)
def test_a_good_inventory_passes(role: str, changes: dict, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "shop.tar.gz").touch()
    assert faults(role, directory=str(tmp_path), **GOOD[role] | changes) == ""


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_what_has_no_default_has_to_be_set(role: str) -> None:
    required = {name for name, spec in argument_specs(role).items() if spec.get("required")}
    told = faults(role)
    assert all(f"{name} is not set, and has no default." in told for name in required)


def test_every_fault_is_told_at_once() -> None:
    told = faults("nginx_site", **GOOD["nginx_site"], nginx_site_listen=0, nginx_site_static_url="x", nginx_site_typo=1)
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_variable_has_a_rule_and_every_rule_is_broken_by_a_case(role: str) -> None:
    specs = argument_specs(role)
    rules = yaml.safe_load((ROLES / role / "vars/rules.yml").read_text())
    said = {name for name, spec in specs.items() if spec.get("type") == "bool" or "choices" in spec}
    assert set(specs) == said | {name for name in rules if not name.startswith("_")}
    broken = {f"{role}_{name}" for changes, _ in REFUSED[role] for name in changes}
    assert {name for name in rules if not name.startswith("_")} <= broken


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_the_defaults_are_those_that_the_spec_names_and_each_variable_is_described(role: str) -> None:
    specs = argument_specs(role)
    assert {name: spec["default"] for name, spec in specs.items() if "default" in spec} == defaults(role)
    assert {name for name, spec in specs.items() if not spec.get("required")} == set(defaults(role))
    assert [name for name, spec in specs.items() if not spec.get("description") or not spec.get("type")] == []


PLAYBOOK = """
- hosts: all
  gather_facts: false
  become: true
  vars: {nginx_site_name: shop, nginx_site_upstream_socket: /run/shop.sock}
  tasks:
    - django_asgi.site.validated:
        roles: [django_asgi, nginx_site]
"""


def test_a_play_tells_all_faults_of_all_roles_before_it_contacts_a_host(tmp_path: Path) -> None:
    ssh, connected = tmp_path / "ssh", tmp_path / "connected"
    ssh.write_text(f"#!/bin/sh\ntouch {connected}\nexit 255\n")
    ssh.chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    good = {"django_asgi_source": "https://example.org/shop.git", "nginx_site_server_names": "{{ [inventory_hostname] }}"}
    wrong = good | {
        "django_asgi_workers": 0,
        "django_asgi_secrets": {"KEY": SECRET, "PIN": "{{ 'q7' ~ 'z' }}"},
        "django_asgi_env": {"HOST": "{{ no_such_variable }}"},
        "nginx_site_listen": "http",
    }
    reach = {"ansible_host": "192.0.2.1", "ansible_ssh_executable": str(ssh)}
    hosts = {"good": good | reach, "wrong": wrong | reach}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    environment = os.environ | {
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_CONFIG": str(ROLES.parent / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-vvv", "-i", "hosts.yml", "play.yml"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    report = json.loads(ran.stdout[ran.stdout.index("{\n") :])
    (task,) = (task for play in report["plays"] for task in play["tasks"])
    assert not task["hosts"]["good"].get("failed"), task["hosts"]["good"]
    first, second = task["hosts"]["wrong"]["msg"].splitlines()
    assert first.startswith("django_asgi_env can't be evaluated: ")
    assert "no_such_variable" in first
    assert second == "nginx_site_listen is http; expected a whole number from 1 to 65535."
    assert not connected.exists()
    assert SECRET not in ran.stdout + ran.stderr


def test_the_modules_of_the_rules_are_named_like_their_roles() -> None:
    for role in ROLE_NAMES:
        module = importlib.import_module(f"ansible_collections.django_asgi.site.plugins.module_utils.{role}")
        assert callable(module.faults)


def test_some_of_the_variables_can_be_checked_alone() -> None:
    validated = importlib.import_module("ansible_collections.django_asgi.site.plugins.action.validated")
    found = validated.faults("nginx_site", {"nginx_site_name": "a/b", "nginx_site_listen": 0}, {}, ["nginx_site_name"])
    assert [fault.variable for fault in found] == ["nginx_site_name"]
