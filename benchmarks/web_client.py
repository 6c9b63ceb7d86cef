"""Twenty browsers that never think: asks pages over kept connections and tells how long each took.

A process of its own: reads what to ask as JSON, prints latencies as JSON. HTTP is read by hand,
because the clients share two cores with the server that they measure.
"""

import asyncio
import json
import sys
import time
from typing import Any

Taken = list[tuple[str, float, int, int]]


async def _browse(plan: dict[str, Any], client: int, until: float, taken: Taken) -> None:
    """Ask a list of (page, address) round and round; notes page, seconds, status and bytes."""
    reader, writer = await asyncio.open_connection(plan["host"], plan["port"])
    asks = plan["clients"][client]
    # Each begins elsewhere in its list, as people do.
    turn = client * 7
    while True:
        page, address, cookie = asks[turn % len(asks)]
        turn += 1
        begin = time.perf_counter()
        writer.write(
            f"GET {address} HTTP/1.1\r\nHost: {plan['host']}:{plan['port']}\r\n"
            f"Cookie: {cookie}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        body = await reader.readexactly(lengths[0])
        now = time.perf_counter()
        taken.append((page, now - begin, int(head[9:12]), len(body)))
        if now > until:
            break
        if b"connection: close" in lines:
            writer.close()
            reader, writer = await asyncio.open_connection(plan["host"], plan["port"])
    writer.close()


async def _phase(plan: dict[str, Any]) -> Taken:
    taken: Taken = []
    until = time.perf_counter() + plan["seconds"]
    every = range(len(plan["clients"]))
    await asyncio.gather(*(_browse(plan, client, until, taken) for client in every))
    return taken


def main() -> None:
    """One line of JSON in, one out, until the input ends."""
    for line in sys.stdin:
        begin, cpu = time.perf_counter(), time.process_time()
        taken = asyncio.run(_phase(json.loads(line)))
        wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
        print(json.dumps({"taken": taken, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main()
