"""Measures the matrix of the web page in a browser: milliseconds of a frame while a whole fleet moves and is scrolled.

Run by `make bench-page`. The fleet is simulated; the page, its stream and the browser are real.
"""

import argparse
import asyncio
import time
from typing import Any

from tests.browser.conftest import launched, served_page

# Scrolls and points at cells in each frame, as somebody who looks for something would, and notes what frames cost.
_FRAMES = """async (count) => {
  const { matrix } = globalThis.ome;
  const box = document.getElementById("matrix");
  const [drawing, between] = [[], []];
  let last = 0;
  for (let frame = 0; frame < count; frame += 1) {
    box.scrollLeft = Math.abs(Math.sin(frame / 40)) * box.scrollWidth;
    box.scrollTop = Math.abs(Math.sin(frame / 60)) * box.scrollHeight;
    matrix.hovered = { row: frame % matrix.rows.length, column: frame % matrix.columns.length };
    matrix.draw();
    const now = await new Promise((resolve) => requestAnimationFrame(resolve));
    if (last) between.push(now - last);
    last = now;
    await new Promise((resolve) => setTimeout(resolve));
    drawing.push(matrix.frameMilliseconds);
  }
  return { drawing, between };
}"""


def shown(name: str, values: list[float]) -> str:
    """Median, 99th percentile and maximum."""
    ordered = sorted(values)
    return (
        f"{name:<28} {ordered[len(ordered) // 2]:6.2f} {ordered[len(ordered) * 99 // 100]:6.2f} {ordered[-1]:6.2f} ms"
    )


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=600)
    arguments = parser.parse_args()
    async with launched() as chromium, served_page(arguments.models, arguments.nodes) as page:
        moving = asyncio.create_task(_move(page.fleet))
        context = await chromium.new_context(viewport={"width": 1600, "height": 1000})
        tab = await context.new_page()
        await tab.goto(page.address)
        await tab.wait_for_selector("#loading", state="hidden")
        print(f"{arguments.models} models × {arguments.nodes} nodes              median    99%    max")
        for size in range(6):
            await tab.evaluate("size => { ome.matrix.resize(size - ome.matrix.size); }", size)
            cell = await tab.evaluate("ome.matrix.cell")
            measured: Any = await tab.evaluate(_FRAMES, arguments.frames)
            print(shown(f"drawing, cells of {cell} px", measured["drawing"]))
            print(shown("  from frame to frame", measured["between"]))
        started, used = time.monotonic(), time.process_time()
        await asyncio.sleep(5)
        share = (time.process_time() - used) / (time.monotonic() - started)
        print(f"this process, which serves the page and moves the fleet: {share:.0%} of a core")
        moving.cancel()
        await context.close()


async def _move(fleet: Any) -> None:
    while True:
        await asyncio.sleep(1)
        fleet.step()


if __name__ == "__main__":
    asyncio.run(main())
