from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.guest.config_drive.drive import image
from bosh_lxd_cpi.recording.redaction import PRIVATE_KEYS, Redactor

MBUS = 'nats://nats:p4ss"w\\rd\n@10.0.0.6:4222'
KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\nhRANCAAT\n-----END PRIVATE KEY-----\n"


def test_hides_a_secret_in_every_string():
    redactor = Redactor(secrets=["hush-hush"])
    assert redactor.redact({"a": ["say hush-hush", 1, None, True], "b": {"c": "hush-hush"}}) == {
        "a": ["say *********", 1, None, True],
        "b": {"c": "*********"},
    }


def test_hides_values_under_secret_keys_everywhere():
    arguments = {
        "env": {"bosh": {"mbus": {"cert": {"private_key": KEY, "port": 1}}}},
        "blobstore": {"secret_access_key": "sesame"},
    }
    redactor = Redactor([arguments])
    redacted = redactor.redact(arguments)
    assert redacted["env"]["bosh"]["mbus"]["cert"] == {"private_key": "*" * len(json.dumps(KEY)[1:-1]), "port": 1}
    assert redacted["blobstore"]["secret_access_key"] == redactor.redact_string("sesame") == "******"


def test_hides_lines_of_keys_and_passwords_of_urls():
    redactor = Redactor(secrets=[KEY, "nats://nats:sesame@10.0.0.6"])
    assert redactor.redact_string("it said MIGHAgEA and sesame") == "it said ******** and ******"


def test_hides_secrets_in_urls_and_tracebacks():
    redactor = Redactor(secrets=["sé/same"])
    stars = "*" * len(r"s\u00e9/same")
    text = r"/x?q=s%C3%A9%2Fsame or 'sé/same' or s\u00e9/same"
    assert redactor.redact_string(text) == f"/x?q={stars} or '{stars}' or {stars}"


def test_hides_certificates_under_any_key():
    arguments = {"motd": "-----BEGIN CERTIFICATE-----\nMIIB\n"}
    assert set(Redactor([arguments]).redact(arguments)["motd"]) == {"*"}


def test_keeps_values_too_short_for_a_secret():
    document = {"password": "*", "token": ""}
    assert Redactor([document]).redact(document) == document


def test_hides_private_values_only_on_request():
    environment = {"environment": {"server_name": "anvil", "addresses": ["198.51.100.7:8443"], "server_version": "6.0"}}
    assert Redactor().redact(environment, private=PRIVATE_KEYS) == {
        "environment": {"server_name": "*****", "addresses": ["*" * 17], "server_version": "6.0"}
    }
    assert Redactor().redact(environment) == environment


def test_redacting_twice_changes_nothing():
    document = {"mbus": MBUS, "x": [f"to {MBUS}"]}
    once = Redactor([document]).redact(document)
    assert Redactor([once]).redact(once) == once


@pytest.mark.parametrize("secret", [MBUS, KEY, "plain-secret", "pässwörd"], ids=["url", "key", "ascii", "unicode"])
def test_drive_of_redacted_settings_is_the_redacted_drive(secret):
    def drive(settings):
        return image(
            settings,
            kind="CDROM",
            label="config-2",
            metadata_path="ec2/latest/meta-data.json",
            userdata_path="ec2/latest/user-data",
        )

    settings = {"agent_id": "a", "mbus": secret, "env": {"again": f"<{secret}>"}}
    redactor = Redactor([settings])
    redacted = redactor.redact_bytes(drive(settings))
    assert redacted == drive(redactor.redact(settings)) != drive(settings)
    assert json.dumps(secret)[1:-1].encode() not in redacted


def test_hides_options_whose_content_is_up_to_the_operator():
    config = {"cloud-init.user-data": "#cloud-config", "user.vendor-data": "data", "environment.X": "value"}
    kept = {"user.bosh.state": "created", "limits.cpu": "2000", "image.os": "Ubuntu"}
    redacted = Redactor().redact({"metadata": {"expanded_config": {**config, **kept}}})["metadata"]["expanded_config"]
    assert redacted == {**{key: "*" * len(value) for key, value in config.items()}, **kept}
