"""What the PaddlePaddle driver declares about itself: imports no framework."""

import sys
from collections.abc import Sequence

from fastprompt.framework import Declaration, Launcher, LineStyle
from fastprompt.launch import local
from fastprompt.launch.subprocesses import environment, threads_each


def _commands(count: int, device: str | None, arguments: Sequence[str]) -> list[local.Command]:
    points = [f"127.0.0.1:{port}" for port in local.free_ports(count)]
    shared = {**environment("paddle"), "OMP_NUM_THREADS": threads_each(count)}
    shared |= {"PADDLE_TRAINERS_NUM": str(count), "PADDLE_TRAINER_ENDPOINTS": ",".join(points)}
    shared |= {"PADDLE_MASTER": points[0]}
    command = [sys.executable, *arguments]
    return [
        (
            command,
            {
                **shared,
                "PADDLE_TRAINER_ID": str(rank),
                "PADDLE_RANK_IN_NODE": str(rank),
                "PADDLE_CURRENT_ENDPOINT": points[rank],
                **({} if device == "cpu" else {"FLAGS_selected_gpus": str(rank)}),
            },
        )
        for rank in range(count)
    ]


DECLARATION = Declaration(
    packages=("paddlepaddle",),
    capabilities=frozenset({"bf16", "fp16"}),
    launcher=Launcher(
        "python -m paddle.distributed.launch",
        *("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "PADDLE_RANK_IN_NODE"),
        ("PADDLE_TRAINER_ENDPOINTS", "PADDLE_CURRENT_ENDPOINT"),
        _commands,
    ),
    line_style=LineStyle("#b85200", "#f2a03d", dashes=(5, 2.5), width=1.9),
)
