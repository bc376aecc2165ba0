"""axe-core, the accessibility checker, fetched once by npm; not kept in the repository (docs/decisions.md says why)."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
SERIOUS = ("serious", "critical")


def fetch_axe(cache: Path) -> str:
    """Return axe-core's source, from the cache or by ``npm pack``; skip the test where neither works."""
    script = cache / f"axe-{VERSION}.min.js"
    if not script.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core is fetched by npm, and there is no npm on PATH")
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(cache)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cache)
        except subprocess.TimeoutExpired:
            pytest.skip("axe-core could not be fetched: npm pack took more than two minutes")
        if done.returncode:
            pytest.skip(f"axe-core could not be fetched: {done.stderr.strip()[-200:]}")
        package = cache / f"axe-core-{VERSION}.tgz"
        assert base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == SHA512
        with tarfile.open(package) as archive:
            source = archive.extractfile("package/axe.min.js")
            assert source is not None
            script.write_bytes(source.read())
        package.unlink()
    return script.read_text("utf-8")


def serious_faults(page, source: str) -> list[str]:
    """Return the serious and critical faults that axe-core finds in what a page shows, each with its first place."""
    page.evaluate(f"{source}; 0")
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations)")
    return [
        f"{fault['id']}: {fault['help']} at {fault['nodes'][0]['target']} {fault['nodes'][0].get('failureSummary', '')}"
        for fault in found
        if fault["impact"] in SERIOUS
    ]
