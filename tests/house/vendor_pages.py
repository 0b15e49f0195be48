"""Fetches what pages load of others' from npm, as ``vendor.json`` names it: ``python -m tests.house.vendor_pages``.

A package whose published digest is another than is written there is refused. With a version changed in ``vendor.json``
and its ``integrity`` taken out, the digests are written anew.
"""

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[2] / "python" / "carrel" / "http" / "static" / "vendor"
MANIFEST = VENDOR / "vendor.json"


def main() -> int:
    """Fetch, compare, and lay out."""
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    licences = []
    for package in manifest["packages"]:
        with tempfile.TemporaryDirectory() as made:
            subprocess.run(
                ["npm", "pack", "--silent", f"{package['name']}@{package['version']}", "--pack-destination", made],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            (archive,) = Path(made).iterdir()
            digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            if package.setdefault("integrity", digest) != digest:
                sys.stderr.write(f"{package['name']}: what is published is not what vendor.json names\n")
                return 1
            with tarfile.open(archive) as opened:
                for name, file in package["files"].items():
                    content = opened.extractfile(f"package/{file['from']}")
                    assert content is not None, file
                    data = content.read()
                    (VENDOR / name).write_bytes(data)
                    file["sha256"] = hashlib.sha256(data).hexdigest()
                text = opened.extractfile("package/LICENSE")
                assert text is not None, package["name"]
                licences.append(f"== {package['name']} {package['version']}\n{text.read().decode()}")
    (VENDOR / "LICENSES.txt").write_text("\n".join(licences), encoding="utf-8")
    MANIFEST.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
