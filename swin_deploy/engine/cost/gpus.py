"""Peak rates of GPUs, from NVIDIA's papers: for estimates, where no GPU is at hand."""

from __future__ import annotations

from dataclasses import dataclass

from swin_deploy.core.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One row. Rates are dense: figures "with sparsity" are twice these and hold for no Swin.

    Attributes:
        name: What ``--gpu`` takes.
        fp16_tflops: Tensor cores, FP16 or BF16, accumulating in FP32.
        int8_tops: Tensor cores, INT8; None where the papers state none.
        fp32_tflops: Plain FP32. Tensor cores in TF32 round its inputs and can be faster.
        memory_gb_s: Memory bandwidth, 1e9 bytes a second.
        source: Where the figures stand, and what was derived from them.
    """

    name: str
    fp16_tflops: float
    int8_tops: float | None
    fp32_tflops: float
    memory_gb_s: float
    source: str


def _gpu(
    name: str, fp16: float, int8: float | None, fp32: float, memory: float, source: str
) -> Gpu:
    return Gpu(
        name=name,
        fp16_tflops=fp16,
        int8_tops=int8,
        fp32_tflops=fp32,
        memory_gb_s=memory,
        source=source,
    )


# Every figure was compared with copies of the tables of these documents that others have published;
# NVIDIA's own files were not at hand. What is derived rather than stated says so.
_HALVED = "stated with sparsity, here halved"
_HOPPER = "NVIDIA H100 Tensor Core GPU Architecture whitepaper, SXM5"
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("a100", 312, 624, 19.5, 2039, "NVIDIA A100 data sheet, 80 GB SXM"),
        _gpu("h100", 989.4, 1978.9, 66.9, 3350, f"{_HOPPER}; memory: NVIDIA H100 data sheet"),
        _gpu("h200", 989.4, 1978.9, 66.9, 4800, f"{_HOPPER}; memory: NVIDIA H200 data sheet, SXM"),
        _gpu(
            *("b200", 2250, 4500, 75, 8000),
            source=f"NVIDIA HGX B200 data sheet, of one GPU, FP16 and INT8 {_HALVED}; memory: an "
            "eighth of the 64 TB/s of the DGX B200 data sheet, where that of HGX has 7.7 TB/s",
        ),
        _gpu("l4", 121, 242.5, 30.3, 300, f"NVIDIA L4 data sheet, FP16 and INT8 {_HALVED}"),
        _gpu("l40s", 362.05, 733, 91.6, 864, "NVIDIA L40S data sheet"),
        _gpu(
            *("t4", 65, 130, 8.1, 320),
            source="NVIDIA T4 data sheet; memory: 256 bits at twice 5001 MHz, as the driver says; "
            "the data sheet has 300 GB/s",
        ),
        _gpu("a10", 125, 250, 31.2, 600, "NVIDIA A10 data sheet"),
        _gpu(
            *("rtx-3090", 71, 284, 35.6, 936),
            source="NVIDIA Ampere GA102 GPU Architecture whitepaper 2.0, appendix A",
        ),
        _gpu(
            *("rtx-4090", 165.2, 660.6, 82.6, 1008),
            source="NVIDIA Ada GPU Architecture whitepaper 2.1, appendix A",
        ),
        _gpu(
            *("rtx-5090", 209.5, 838, 104.8, 1792),
            source="NVIDIA RTX Blackwell GPU Architecture whitepaper, table 3",
        ),
        _gpu(
            *("jetson-orin", 42.5, 85, 5.3, 204.8),
            source="NVIDIA Jetson AGX Orin Series technical brief 1.2, 64 GB, GPU without DLA; "
            f"INT8 {_HALVED}, FP16 half of that: it states none",
        ),
        _gpu(
            *("jetson-thor", 258.5, None, 8.064, 273),
            source="NVIDIA Jetson Thor data sheet, T5000; FP16 half of the 517 dense TFLOPS of "
            "FP8: it states none",
        ),
    )
}


def find_gpu(name: str) -> Gpu:
    """The row called ``name``, in whatever case.

    Raises:
        ConfigError: There is none; names the nearest ones.
    """
    if (found := GPUS.get(name.lower())) is not None:
        return found
    raise ConfigError(f"unknown GPU {name!r}", " or ".join(nearest(name.lower(), GPUS)))


def estimate_s(gpu: Gpu, moved_bytes: int, flops: int, dtype: str) -> tuple[float, str]:
    """Time that one kernel takes at least, in seconds, and what bounds it: "memory" or "compute".

    The roofline: the larger of bytes over bandwidth and FLOPs over the peak of their datatype. A
    lower bound, without launches; caches can beat the memory of large GPUs.
    """
    memory_s = moved_bytes / (gpu.memory_gb_s * 1e9)
    compute_s = flops / (_peak_tflops(gpu, dtype) * 1e12) if flops else 0.0
    return (compute_s, "compute") if compute_s > memory_s else (memory_s, "memory")


def _peak_tflops(gpu: Gpu, dtype: str) -> float:
    rates = {
        "Half": gpu.fp16_tflops,
        "BFloat16": gpu.fp16_tflops,
        "Int8": gpu.int8_tops,
        "Float": gpu.fp32_tflops,
    }
    if (rate := rates.get(dtype)) is None:
        raise ConfigError(
            f"no {dtype} rate of {gpu.name} is known ({gpu.source})", "cost without --gpu"
        )
    return rate
