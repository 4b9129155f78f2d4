from __future__ import annotations

import json

import pytest

from bosh_lxd_cpi.guest.config_drive.drive import image
from bosh_lxd_cpi.recording.redaction import PRIVATE, Redactor

MBUS = 'nats://nats:p4ss"w\\rd\n@10.0.0.6:4222'
KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\nhRANCAAT\n-----END PRIVATE KEY-----\n"


def test_a_known_value_is_hidden_wherever_it_stands():
    redactor = Redactor(secrets=["hush-hush"])
    assert redactor.document({"a": ["say hush-hush", 1, None, True], "b": {"c": "hush-hush"}}) == {
        "a": ["say *********", 1, None, True],
        "b": {"c": "*********"},
    }


def test_what_stands_under_a_telling_name_is_hidden_in_the_document_and_everywhere_else():
    arguments = {
        "env": {"bosh": {"mbus": {"cert": {"private_key": KEY, "port": 1}}}},
        "blobstore": {"secret_access_key": "sesame"},
    }
    redactor = Redactor([arguments])
    hidden = redactor.document(arguments)
    assert hidden["env"]["bosh"]["mbus"]["cert"] == {"private_key": "*" * len(json.dumps(KEY)[1:-1]), "port": 1}
    assert hidden["blobstore"]["secret_access_key"] == redactor.text("sesame") == "******"


def test_a_line_of_a_key_and_the_password_in_a_url_are_secrets_of_their_own():
    redactor = Redactor(secrets=[KEY, "nats://nats:sesame@10.0.0.6"])
    assert redactor.text("it said MIGHAgEA and sesame") == "it said ******** and ******"


def test_a_secret_is_hidden_in_a_url_and_in_a_traceback_too():
    redactor = Redactor(secrets=["sé/same"])
    stars = "*" * len(r"s\u00e9/same")
    assert redactor.text(r"/x?q=s%C3%A9%2Fsame or 'sé/same' or s\u00e9/same") == f"/x?q={stars} or '{stars}' or {stars}"


def test_a_certificate_is_hidden_whatever_it_is_called():
    arguments = {"motd": "-----BEGIN CERTIFICATE-----\nMIIB\n"}
    assert set(Redactor([arguments]).document(arguments)["motd"]) == {"*"}


def test_short_words_are_no_secrets():
    document = {"password": "*", "token": ""}
    assert Redactor([document]).document(document) == document


def test_what_a_server_says_about_itself_is_hidden_only_where_asked_for():
    environment = {"environment": {"server_name": "anvil", "addresses": ["198.51.100.7:8443"], "server_version": "6.0"}}
    assert Redactor().document(environment, private=PRIVATE) == {
        "environment": {"server_name": "*****", "addresses": ["*" * 17], "server_version": "6.0"}
    }
    assert Redactor().document(environment) == environment


def test_redacting_twice_changes_nothing():
    document = {"mbus": MBUS, "x": [f"to {MBUS}"]}
    once = Redactor([document]).document(document)
    assert Redactor([once]).document(once) == once


@pytest.mark.parametrize("secret", [MBUS, KEY, "plain-secret", "pässwörd"])
def test_a_drive_made_of_redacted_settings_is_the_redacted_drive(secret):
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
    clean = redactor.content(drive(settings))
    assert clean == drive(redactor.document(settings)) != drive(settings)
    assert json.dumps(secret)[1:-1].encode() not in clean
