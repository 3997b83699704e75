"""What an engine takes on. Loads no model library, so that settings can name it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """The bounds of an engine.

    Attributes:
        running_max: sequences that generate together.
        waiting_max: requests that may wait for one of these to end; more are refused.
        context_tokens_max: tokens of all running sequences together, at the greatest length that each may come to.
        step_prompt_tokens_max: tokens of prompts read in one step, so that those who generate wait little for it.
        slots: memories on the device.
        ram_bytes: of coded key-values in RAM.
        decode_graphs: whether steps in which all sequences generate run as CUDA graphs where there is a GPU.
    """

    running_max: int = 16
    waiting_max: int = 32
    context_tokens_max: int = 65_536
    step_prompt_tokens_max: int = 256
    slots: int = 1_024
    ram_bytes: int = 256 << 20
    decode_graphs: bool = True
