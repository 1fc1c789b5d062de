"""The simulator as a process of its own.

    python -m inference.simulator --port 9000 --speed 10 --fault 'gpt-*:rate_limit=0.02'

It prints one line when it listens, and ends on SIGTERM or SIGINT with exit code 0.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from inference.simulator.faults import fault_rule
from inference.simulator.http import HttpServer
from inference.simulator.service import Simulator, SimulatorConfig


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop; 0 when stopped, 1 when the port cannot be had, 2 on misuse."""
    arguments = _parser().parse_args(argv)
    config = SimulatorConfig(
        speed=arguments.speed,
        seed=arguments.seed,
        faults=tuple(arguments.fault),
        kv_blocks=arguments.kv_blocks,
        kv_block_tokens=arguments.kv_block_tokens,
    )
    try:
        _run(config, arguments.host, arguments.port)
    except OSError as error:
        sys.stderr.write(f"bursar simulator cannot listen on {arguments.host}:{arguments.port}: {error}\n")
        return 1
    return 0


async def serve(config: SimulatorConfig, host: str, port: int) -> tuple[HttpServer, int]:
    """Start a simulator in the running loop; its server and its port."""
    server = HttpServer(Simulator(config).handle)
    return server, await server.start(host, port)


def _run(config: SimulatorConfig, host: str, port: int) -> None:
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(_until_stopped(config, host, port))
    else:
        uvloop.run(_until_stopped(config, host, port))


async def _until_stopped(config: SimulatorConfig, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server, bound = await serve(config, host, port)
    sys.stdout.write(
        f"bursar simulator ready on http://{host}:{bound} (simulated models, speed {config.speed:g})\n"
    )
    sys.stdout.flush()
    await stop.wait()
    await server.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference.simulator",
        description="A model server that simulates OpenAI, Anthropic and vLLM: real shapes, no model.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes any free port")
    parser.add_argument(
        "--speed", type=_speed, default=1.0, help="times faster than real; 0 waits for nothing"
    )
    parser.add_argument("--seed", type=_seed, default=0)
    parser.add_argument(
        "--fault",
        type=fault_rule,
        action="append",
        default=[],
        metavar="MODEL:FAULT=P",
        help="a fault that strikes by chance, such as 'gpt-*:rate_limit=0.02'; repeatable",
    )
    parser.add_argument(
        "--kv-blocks",
        type=_count,
        default=0,
        metavar="N",
        help="cache prompts of models such as qwen* in so many blocks, as one vLLM server does",
    )
    parser.add_argument("--kv-block-tokens", type=_size, default=16, metavar="N", help="tokens in a block")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of blocks")
    return number


def _size(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of tokens")
    return number


def _speed(text: str) -> float:
    speed = float(text)
    if not speed >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a speed: 0 or more")
    return speed


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 1 << 32:
        raise argparse.ArgumentTypeError(f"{text} is not a seed: 0 to 2**32 - 1")
    return seed
