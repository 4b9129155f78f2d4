from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.actions.connection import connection_settings, open_transport
from bosh_lxd_cpi.config.schema import Config, Server
from bosh_lxd_cpi.lxd.transport import ConnectionSettings

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nclient\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nkey\n-----END PRIVATE KEY-----\n"
SERVER_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nserver\n-----END CERTIFICATE-----\n"
FINGERPRINT = "ab" * 32
URL = "https://lxd:8443"


def server(**properties):
    return Server(url=URL, tls_client_cert=CERTIFICATE, tls_client_key=KEY, **properties)


def test_settings_of_a_socket_are_its_url_only():
    settings = connection_settings(Server(tls_client_cert="/missing"), "unix:///run/lxd.socket")
    assert settings == ConnectionSettings(url="unix:///run/lxd.socket")


def test_settings_have_the_content_of_files(tmp_path):
    paths = {}
    for name, content in {"cert": CERTIFICATE, "key": KEY, "server": SERVER_CERTIFICATE}.items():
        path = tmp_path / f"{name}.pem"
        path.write_text(content)
        paths[name] = str(path)
    settings = connection_settings(
        Server(
            url=URL,
            tls_client_cert=paths["cert"],
            tls_client_key=paths["key"],
            tls_server_cert=paths["server"],
        ),
        URL,
    )
    assert settings.client_certificate.strip() == CERTIFICATE.strip()
    assert settings.client_key.strip() == KEY.strip()
    assert settings.server_certificate.strip() == SERVER_CERTIFICATE.strip()


@pytest.mark.parametrize("pin", [FINGERPRINT, SERVER_CERTIFICATE], ids=["fingerprint", "certificate"])
def test_pin_replaces_the_ca_certificate(pin):
    settings = connection_settings(server(tls_server_cert=pin, tls_ca_cert=SERVER_CERTIFICATE), URL)
    assert settings.server_certificate.strip() == pin.strip()
    assert settings.ca_certificate == ""


def test_ca_certificate_applies_without_pin():
    settings = connection_settings(server(tls_ca_cert=SERVER_CERTIFICATE), URL)
    assert settings.server_certificate == ""
    assert settings.ca_certificate.strip() == SERVER_CERTIFICATE.strip()


@pytest.mark.parametrize("skip_verify", [True, False])
def test_settings_keep_skip_verify(skip_verify):
    assert connection_settings(server(insecure_skip_verify=skip_verify), URL).skip_verify is skip_verify


@pytest.mark.parametrize("name", ["tls_client_cert", "tls_client_key", "tls_server_cert", "tls_ca_cert"])
def test_rejects_certificate_file_that_cannot_be_read(name):
    properties = {"tls_client_cert": CERTIFICATE, "tls_client_key": KEY, name: "/missing.pem"}
    with pytest.raises(errors.ConfigError, match=r"/missing\.pem"):
        connection_settings(Server(url=URL, **properties), URL)


@pytest.mark.parametrize("url", ["unix:///missing.socket", "unix:///missing.socket unix:///missing.too"])
def test_opening_a_transport_sends_nothing(log, url):
    with open_transport(Config(server=Server(url=url)), log=log) as transport:
        assert transport.requests == 0
