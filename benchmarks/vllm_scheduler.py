"""vLLM's own scheduler and prefix cache at work without a model; run by vLLM's Python alone.

    python benchmarks/vllm_scheduler.py MODEL_FOLDER LOADS.json OUTCOMES.json

Of each load, a list of requests with the number of the step before which they come, it writes for
each request: the steps that gave its first and its last token, cached tokens, preemptions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def scheduler(model: str, load: dict[str, Any]) -> Any:
    import torch
    from vllm.config import (
        CacheConfig,
        DeviceConfig,
        ModelConfig,
        ParallelConfig,
        SchedulerConfig,
        VllmConfig,
    )
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    size, longest = load["block_tokens"], 100_000
    blocks = load["kv_blocks"] + 1  # vLLM keeps one to itself
    cache = CacheConfig(block_size=size, enable_prefix_caching=True)
    cache.num_gpu_blocks = blocks
    config = VllmConfig(
        model_config=ModelConfig(model=model, dtype="float16", max_model_len=longest),
        scheduler_config=SchedulerConfig(
            max_num_seqs=load["max_batch"],
            max_num_batched_tokens=load["max_batched_tokens"],
            max_model_len=longest,
            is_encoder_decoder=False,
            async_scheduling=False,
        ),
        cache_config=cache,
        device_config=DeviceConfig("cpu"),
        parallel_config=ParallelConfig(),
    )
    layer = FullAttentionSpec(block_size=size, num_kv_heads=1, head_size=1, dtype=torch.float32)
    groups = [KVCacheGroupSpec(["layer"], layer)]
    return Scheduler(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(blocks, kv_cache_tensors=[], kv_cache_groups=groups),
        block_size=size,
        structured_output_manager=StructuredOutputManager(config),
    )


def outcome(model: str, load: dict[str, Any]) -> list[list[int]]:
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

    init_none_hash(sha256)
    hasher = get_request_block_hasher(load["block_tokens"], sha256)
    engine, requests, found = scheduler(model, load), {}, {}
    for number, one in enumerate(load["requests"]):
        options = SamplingParams(max_tokens=one["output_tokens"], ignore_eos=True)
        options.update_from_generation_config({}, 0)
        name = str(number)
        requests[name] = Request(name, one["prompt"], options, None, block_hasher=hasher)
        found[name] = [-1, -1, 0, 0]
    coming, step = [(one["step"], str(n)) for n, one in enumerate(load["requests"])], 0
    while coming or engine.has_requests():
        if not engine.has_requests():
            step = max(step, coming[0][0])
        while coming and coming[0][0] <= step:
            engine.add_request(requests[coming.pop(0)[1]])
        scheduled = engine.schedule()
        for new in scheduled.scheduled_new_reqs:
            found[new.req_id][2] = new.num_computed_tokens
        names, said = list(scheduled.num_scheduled_tokens), []
        for name in names:
            request = requests[name]
            says = request.num_computed_tokens >= request.num_tokens
            said.append([1_000 + int(name)] if says else [])
            if says:
                found[name][0] = step if found[name][0] < 0 else found[name][0]
                found[name][1] = step
        places = {name: place for place, name in enumerate(names)}
        engine.update_from_output(scheduled, ModelRunnerOutput(names, places, said))
        step += 1
    for name, request in requests.items():
        found[name][3] = request.num_preemptions
    return list(found.values())


def main() -> None:
    model, loads, out = sys.argv[1:]
    found = [outcome(model, load) for load in json.loads(Path(loads).read_bytes())]
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
