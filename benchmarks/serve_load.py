"""How many pictures a second the service takes in, and how long one waits: real requests over loopback.

Starts `stylematch-batch serve` on a free port, sends it the pictures of a folder from as many clients at once as asked,
each sending its next picture when the last was answered, and prints rate, latencies, what was refused, how large the
batches were, and the processor time of a picture. The first seconds warm up and do not count. Dropped is a request
that was not answered at all. Rate and latencies are of pictures that were scored; those that are no pictures are
refused, which is quick and counts as an answer alone.

    python benchmarks/serve_load.py --photos examples/photos --seconds 60 --clients 1 8 32
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
from machine import RESULTS, program, report

from stylematch.data.photos import find_photos

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process_id: int) -> float:
    """Return the processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def metric(text: str, name: str) -> float:
    """Return a metric's value."""
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def load(
    address: str, pictures: list[bytes], clients: int, seconds: float, warm_s: float, process_id: int
) -> dict:
    """Keep ``clients`` requests under way for ``seconds`` and return what was measured."""
    waiting = itertools.cycle(pictures)
    taken_s: list[float] = []
    statuses: Counter[int] = Counter()
    dropped: Counter[str] = Counter()
    start = time.perf_counter() + warm_s
    end = start + seconds

    async with httpx.AsyncClient(base_url=address, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def one() -> None:
            while (began := time.perf_counter()) < end:
                try:
                    answer = await client.post("/score", content=next(waiting), headers={"Content-Type": "image/jpeg"})
                except httpx.TransportError as error:
                    dropped[type(error).__name__] += 1
                    continue
                if start <= began and (done := time.perf_counter()) <= end:
                    statuses[answer.status_code] += 1
                    if answer.status_code == HTTPStatus.OK:
                        taken_s.append(done - began)

        async def watch() -> tuple[float, str, float, str]:
            await asyncio.sleep(warm_s)
            before = cpu_seconds(process_id), (await client.get("/metrics")).text
            await asyncio.sleep(seconds)
            return *before, cpu_seconds(process_id), (await client.get("/metrics")).text

        watched, *_ = await asyncio.gather(watch(), *(one() for _ in range(clients)))
    cpu_before, text_before, cpu_after, text_after = watched
    scored, calls = (
        metric(text_after, name) - metric(text_before, name)
        for name in ("stylematch_batch_pictures_sum", "stylematch_batch_pictures_count")
    )
    p50, p95, p99 = (round(1000 * float(np.quantile(taken_s, q)), 1) for q in (0.5, 0.95, 0.99))
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": statuses.total(),
        "statuses": dict(sorted(statuses.items())),
        "dropped": dropped.total(),
        "scored_per_second": round(len(taken_s) / seconds, 1),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "pictures_per_batch": round(scored / calls, 2),
        "server_cpu_ms_per_picture": round(1000 * (cpu_after - cpu_before) / scored, 1),
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"), help="what is sent, in turn")
    parser.add_argument("--limit", type=int, default=500, help="only the first so many photos")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each number of clients is measured")
    parser.add_argument("--warm-s", type=float, default=5.0, help="seconds before that which do not count")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="requests under way at once")
    parser.add_argument("--options", default="", help="more options of stylematch-batch serve, in one string")
    parser.add_argument("--out", type=Path, default=RESULTS / "serve_load.json")
    given = parser.parse_args()

    found = itertools.islice(find_photos(given.photos), given.limit)
    pictures = [(given.photos / os.fsdecode(photo.raw_path)).read_bytes() for photo in found]
    command = program("serve", "--port", 0, *given.options.split())
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(process.wait())
        figures = []
        try:
            for clients in given.clients:
                address = line.split()[-1]
                figures.append(asyncio.run(load(address, pictures, clients, given.seconds, given.warm_s, process.pid)))
                print(json.dumps(figures[-1]), flush=True)
        finally:
            process.send_signal(signal.SIGTERM)
    columns = ("clients", "scored_per_second", "p50_ms", "p95_ms", "p99_ms", "answers", "dropped", "pictures_per_batch")
    heading = [*(name.replace("_", " ") for name in columns), "answers by status"]
    rows = [
        [
            *(each[name] for name in columns),
            ", ".join(f"{status}: {count:,}" for status, count in each["statuses"].items()),
        ]
        for each in figures
    ]
    report({"photos": len(pictures), "figures": figures}, [heading, *rows], given.out)


if __name__ == "__main__":
    main()
