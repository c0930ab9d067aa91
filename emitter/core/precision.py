"""Which number format a processor computes fastest in.

bfloat16 halves the work where the processor multiplies it (AVX-512 BF16, AMX, recent GPUs). Elsewhere it is emulated:
a 3×3 convolution of 64 channels then takes 4 times as long as in float32, a matrix product 12 times.
"""

from __future__ import annotations

import torch


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 numbers in hardware."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
