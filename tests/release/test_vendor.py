"""bin/vendor: download, pins and SBOM of the libraries."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.release import bosh_release

LIBRARY = b"a source distribution"
PIN = {
    "name": "Some.Lib",
    "version": "1.0",
    "file": "some_lib-1.0.tar.gz",
    "size": len(LIBRARY),
    "sha256": hashlib.sha256(LIBRARY).hexdigest(),
    "licence": "MIT",
}


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """bin/vendor in an empty repository with one pin."""
    loader = importlib.machinery.SourceFileLoader("vendor", str(bosh_release.ROOT / "bin/vendor"))
    spec = importlib.util.spec_from_loader("vendor", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    root = tmp_path / "repository"
    for folder in ("packages", "config", "bosh_lxd_cpi"):
        (root / folder).mkdir(parents=True)
    (root / "packages/vendor.json").write_text(json.dumps({"vendored": [PIN]}))
    (root / "bosh_lxd_cpi/__init__.py").write_text('__version__ = "7.8.9"\n')
    monkeypatch.setattr(module, "ROOT", root)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / str(PIN["file"])).write_bytes(LIBRARY)
    return tmp_path / "folder"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A Python index with one page. Return a function that sets the page and returns the URL of the index."""
    root = tmp_path / "index"
    (root / "simple/some-lib").mkdir(parents=True)
    (root / "files").mkdir()
    (root / "files" / str(PIN["file"])).write_bytes(LIBRARY)

    class QuietHandler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def set_page(text: str) -> str:
            (root / "simple/some-lib/index.html").write_text(text)
            return f"http://127.0.0.1:{server.server_port}/simple/"

        yield set_page
        server.shutdown()
        thread.join()


def test_copies_files_from_a_directory(vendor: ModuleType, folder: Path) -> None:
    assert vendor.main(["--from", str(folder)]) == 0
    assert (vendor.ROOT / "blobs/vendor/some_lib-1.0.tar.gz").read_bytes() == LIBRARY
    assert yaml.safe_load((vendor.ROOT / "config/blobs.yml").read_text()) == {
        "vendor/some_lib-1.0.tar.gz": {"size": PIN["size"], "sha": f"sha256:{PIN['sha256']}"}
    }
    assert vendor.main(["--check"]) == 0


@pytest.mark.parametrize(
    "page",
    [
        '<a href="../../files/some_lib-1.0.tar.gz#sha256=aa" data-requires-python="&gt;=3.8">some_lib-1.0.tar.gz</a>',
        json.dumps(
            {
                "files": [
                    {
                        "filename": "some_lib-1.0.tar.gz",
                        "hashes": {"sha256": "aa"},
                        "url": "../../files/some_lib-1.0.tar.gz",
                    }
                ]
            }
        ),
    ],
    ids=["HTML", "JSON"],
)
def test_reads_an_index(
    page: str, vendor: ModuleType, index: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index(page))
    assert vendor.main([]) == 0
    assert vendor.main(["--check"]) == 0


def test_does_not_download_existing_files(vendor: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor.main(["--from", str(folder)])
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    assert vendor.main([]) == 0


@pytest.mark.parametrize("data", [LIBRARY + b"!", LIBRARY[::-1]], ids=["different size", "different bytes"])
def test_rejects_files_that_do_not_match_their_pin(
    data: bytes, vendor: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / str(PIN["file"])).write_bytes(data)
    assert vendor.main(["--from", str(folder)]) == 1
    assert "does not match its pin" in capsys.readouterr().err
    assert not (vendor.ROOT / "blobs").exists()


def test_suggests_a_directory_when_the_index_fails(
    vendor: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    assert vendor.main([]) == 1
    assert "--from DIR" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["missing blob", "changed blob", "stale index"])
def test_check_detects(damage: str, vendor: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vendor.main(["--from", str(folder)])
    blob = vendor.ROOT / "blobs/vendor/some_lib-1.0.tar.gz"
    if damage == "missing blob":
        blob.unlink()
    elif damage == "changed blob":
        blob.write_bytes(LIBRARY[::-1])
    else:
        (vendor.ROOT / "config/blobs.yml").write_text("{}\n")
    assert vendor.main(["--check"]) == 1
    assert "vendor: " in capsys.readouterr().err


def python_options(folder: Path, version: str) -> list[str]:
    """Create a source archive of CPython and return the options that add it."""
    source = folder / f"Python-{version}.tgz"
    source.write_text(version)
    digest = hashlib.sha256(version.encode()).hexdigest()
    return ["--from", str(folder), "--python", str(source), "--sha256", digest]


def test_adds_replaces_and_removes_the_source_of_cpython(vendor: ModuleType, folder: Path) -> None:
    for version in ("3.12.8", "3.13.1"):
        assert vendor.main(python_options(folder, version)) == 0
    blobs = yaml.safe_load((vendor.ROOT / "config/blobs.yml").read_text())
    assert set(blobs) == {"vendor/some_lib-1.0.tar.gz", "python3/Python-3.13.1.tgz"}
    assert vendor.main(["--check"]) == 0
    assert vendor.main(["--python", str(folder / "Python-3.13.1.tgz")]) == 0, "vendor.json pins it"
    assert vendor.main(["--python", str(folder / str(PIN["file"]))]) == 1
    assert vendor.main(["--remove-python"]) == 0
    assert vendor.main(["--check"]) == 0
    assert set(yaml.safe_load((vendor.ROOT / "config/blobs.yml").read_text())) == {"vendor/some_lib-1.0.tar.gz"}
    assert json.loads((vendor.ROOT / "packages/vendor.json").read_text()) == {"vendored": [PIN]}


def test_rejects_unpinned_or_changed_source_of_cpython(
    vendor: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = python_options(folder, "3.13.1")
    assert vendor.main(arguments[:-2]) == 1
    assert "pass its SHA-256 from python.org with --sha256" in capsys.readouterr().err
    (folder / "Python-3.13.1.tgz").write_text("CHANGE")
    assert vendor.main(arguments) == 1
    assert "Python-3.13.1.tgz does not match its pin" in capsys.readouterr().err


def test_check_rejects_unpinned_or_changed_blob_of_cpython(vendor: ModuleType, folder: Path) -> None:
    assert vendor.main(["--from", str(folder)]) == 0
    blob = vendor.ROOT / "blobs/python3/Python-3.13.1.tgz"
    blob.parent.mkdir()
    blob.write_text("any file")
    assert vendor.main(["--from", str(folder)]) == 0
    assert vendor.main(["--check"]) == 1
    assert vendor.main(python_options(folder, "3.13.1")) == 0
    blob.write_text("3.13.2")
    assert vendor.main(["--check"]) == 1


def test_sbom_lists_licences_and_digests(vendor: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vendor.main(python_options(folder, "3.13.1"))
    capsys.readouterr()
    assert vendor.main(["--sbom"]) == 0
    sbom = json.loads(capsys.readouterr().out)
    assert sbom["metadata"]["component"]["version"] == "7.8.9"
    assert [(part["name"], part["version"], part["licenses"][0]["license"]["id"]) for part in sbom["components"]] == [
        ("Some.Lib", "1.0", "MIT"),
        ("CPython", "3.13.1", "PSF-2.0"),
    ]
    assert [part["hashes"][0]["content"] for part in sbom["components"]] == [
        PIN["sha256"],
        hashlib.sha256(b"3.13.1").hexdigest(),
    ]


def test_blobs_yml_of_the_repository_matches_the_pins(vendor: ModuleType) -> None:
    pins = json.loads((bosh_release.ROOT / "packages/vendor.json").read_text("utf-8"))["vendored"]
    assert (bosh_release.ROOT / "config/blobs.yml").read_text("utf-8") == vendor.blobs_yml(pins, vendor.ROOT)
