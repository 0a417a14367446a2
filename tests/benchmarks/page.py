"""How fast the page answers:  python -m tests.benchmarks.page

Starts app.py as a user does and asks it, from outside, what a visitor would. Run it while nothing else runs.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gradio_client import Client

from diffusion_core.checkpoint import load
from diffusion_core.denoisers import Guided
from diffusion_core.samplers import generate

from .timing import Clock, interleaved, table

ROOT = Path(__file__).parents[2]
SAMPLE = dict(
    model="mnist", cls="all", sampler="dpmpp_2m", steps=20, guidance=2.0, seed=7, count=16, eta=0.0, spacing="lam"
)

PATH = dict(
    model="mnist", source="generated", class_a="3", picture_a=0, class_b="8", picture_b=0, way="slerp", depth=0.5,
    positions=9, steps=20, guidance=2.0, seed=0,
)  # fmt: skip


def start() -> tuple[subprocess.Popen, Client, float]:
    """The running app, a client of it, and the seconds from the command to its first answer."""
    started = time.perf_counter()
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    url = next(m[0] for line in app.stdout if (m := re.search(r"http://127\.0\.0\.1:\d+", line)))
    client = Client(url, verbose=False)
    client.predict(t=0.5, api_name="/forward")
    return app, client, time.perf_counter() - started


def slider(client: Client, moves: int = 50) -> list[float]:
    """Seconds of each of many moves of the t slider."""
    seconds = []
    for k in range(moves):
        started = time.perf_counter()
        client.predict(schedule="vp_linear", t=k / moves, seed=0, compare=False, api_name="/forward")
        seconds.append(time.perf_counter() - started)
    return seconds


def sampling(client: Client, **changes) -> tuple[float, float]:
    """Seconds to the first preview and to the images."""
    started = time.perf_counter()
    job = client.submit(**SAMPLE | changes, api_name="/sample")
    next(iter(job))
    first = time.perf_counter() - started
    job.result()
    return first, time.perf_counter() - started


def path(client: Client) -> tuple[float, float]:
    """Seconds until the first row of a path is there, and until all three are."""
    started, first = time.perf_counter(), None
    for _, about in client.submit(**PATH, api_name="/interpolate"):
        if first is None and about and about.get("step") == -1:
            first = time.perf_counter() - started
    return first, time.perf_counter() - started


def preview_share(runs: int = 5) -> list[float]:
    """By how many percent the previews make a run longer, run by run: with them and without, in turns."""
    from app import demo  # noqa: F401  it fills the registry of models
    from tabs.sample import sample
    from tabs.widgets.runs import Settings, frames

    settings = Settings(**SAMPLE)

    def shown() -> None:
        for _, about in sample(*settings):
            if about["step"] == settings.steps:  # what follows is the result, not a preview
                return

    def bare() -> None:
        for _ in frames(settings):
            pass

    times = interleaved({"shown": shown, "bare": bare}, runs)
    return [100 * (a / b - 1) for a, b in zip(times["shown"].seconds, times["bare"].seconds, strict=True)]


def crowd(url: str, clients: int) -> list[tuple[float, float]]:
    """What `sampling` gives for each of several visitors who press Generate at once."""
    visitors = [Client(url, verbose=False) for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(sampling, visitors))


def network_seconds() -> float:
    """What the network alone takes of the same run, here, where no page is around it."""
    model, s = load(ROOT / "checkpoints" / f"{SAMPLE['model']}.safetensors"), SAMPLE
    clock = Clock(model.denoiser.net)
    for _ in generate(Guided(model.denoiser, s["guidance"]), (s["count"], *model.shape), s["sampler"], steps=s["steps"],
                      seeds=list(range(s["count"])), cond=model.conditions(s["cls"], s["count"])):  # fmt: skip
        pass
    return clock.seconds


def end_to_end(runs: int = 5) -> str:
    """A table: 16 guided images of the page's own endpoint for one, two and four visitors at once."""
    app, client, _ = start()
    try:
        found = {n: [crowd(client.src, n) for _ in range(runs + 1)][1:] for n in (1, 2, 4)}
        alone = [network_seconds() for _ in range(runs + 1)][1:]
    finally:
        app.terminate()
    rows = []
    for n, each in found.items():
        first, last = [max(f for f, _ in visit) for visit in each], [max(t for _, t in visit) for visit in each]
        share = f"{100 * statistics.median(alone) / statistics.median(last):.0f} %" if n == 1 else ""
        rows.append([str(n), spread(first), spread(last), share])
    heads = ["visitors at once, 16 digits in 20 guided steps each", "the last one's first preview", "all have theirs"]
    return table([*heads, "network alone takes"], rows)


def peak_memory(app: subprocess.Popen) -> float:
    """GB that the app's process has held at most (Linux)."""
    status = Path(f"/proc/{app.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 2**20


def spread(seconds: tuple[float, ...]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, n = {len(seconds)})"


def main() -> None:
    app, client, ready = start()
    try:
        moves = slider(client)
        firsts, totals = zip(*(sampling(client) for _ in range(5)), strict=True)
        _, auto = zip(*(sampling(client, steps=10, guidance=1 + k / 10) for k in range(5)), strict=True)
        rows, paths = zip(*(path(client) for _ in range(5)), strict=True)
        slowest = 1000 * statistics.quantiles(moves, n=10)[-1]
        print(f"start to first answer            {ready:.1f} s")
        print(f"one move of the t slider         {1000 * statistics.median(moves):.0f} ms, 90 % under {slowest:.0f} ms")
        print(f"16 digits, 20 steps, guidance 2  {spread(totals)}")
        print(f"  first preview after            {spread(firsts)}")
        print(f"16 digits, 10 steps, guided      {spread(auto)}")
        print(f"a path of 9, three decodings     {spread(paths)}")
        print(f"  its first row after            {spread(rows)}")
        print(f"peak memory of the process       {peak_memory(app):.2f} GB")
    finally:
        app.terminate()
    shares = preview_share()
    print(
        f"previews make a run longer by    {statistics.median(shares):.1f} % ({min(shares):.1f} to {max(shares):.1f})"
    )


if __name__ == "__main__":
    main()
