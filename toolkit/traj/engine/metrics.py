"""What `/metrics` tells, under vLLM's names where it means the same."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

from traj.engine.realtime import Live
from traj.engine.request import Progress

_SECONDS: tuple[float, ...] = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
_PS = 1e12


class Metrics:
    """Counts what is over, and asks the engine for the rest."""

    def __init__(self, model: str, live: Live) -> None:
        self._live = live
        escaped = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        self._model = f'model_name="{escaped}"'
        self.input_tokens = self.cached_tokens = self.output_tokens = 0
        self.faults: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter({"stop": 0, "length": 0, "abort": 0})
        names = ("time_to_first_token_seconds", "e2e_request_latency_seconds")
        self._times: dict[str, list[float]] = {name: [0.0] * (len(_SECONDS) + 2) for name in names}

    def count(self, progress: Progress, reason: str) -> None:
        """A request is over: `reason` is stop, length or abort."""
        self._reasons[reason] += 1
        if progress.last_ps is None or progress.first_ps is None:
            return
        self.input_tokens += progress.request.input_tokens
        self.cached_tokens += progress.cached_tokens or 0
        self.output_tokens += progress.request.output_tokens
        for name, end in zip(self._times, (progress.first_ps, progress.last_ps), strict=True):
            seconds = (end - progress.arrived_ps) / _PS
            self._times[name][bisect_left(_SECONDS, seconds)] += 1
            self._times[name][-1] += seconds

    def text(self) -> str:
        """In Prometheus' text format. `engine` is the number of the replica."""
        engines = self._live.fleet.engines
        usage = [one.used_blocks / one.parameters.kv_blocks for one in engines]
        lines: list[str] = []
        for name, kind, values in (
            ("vllm:num_requests_running", "gauge", [len(one.running) for one in engines]),
            ("vllm:num_requests_waiting", "gauge", [len(one.waiting) for one in engines]),
            ("vllm:kv_cache_usage_perc", "gauge", usage),
            ("vllm:num_preemptions_total", "counter", [one.preemptions for one in engines]),
            ("traj:steps_total", "counter", [one.ticks for one in engines]),
            ("traj:busy_seconds_total", "counter", [one.busy_ps / _PS for one in engines]),
        ):
            lines.append(f"# TYPE {name} {kind}")
            for number, value in enumerate(values):
                lines.append(f'{name}{{engine="{number}",{self._model}}} {value}')
        for name, value in (
            ("vllm:prefix_cache_queries_total", self.input_tokens),
            ("vllm:prefix_cache_hits_total", self.cached_tokens),
            ("vllm:prompt_tokens_total", self.input_tokens),
            ("vllm:generation_tokens_total", self.output_tokens),
        ):
            lines += [f"# TYPE {name} counter", f"{name}{{{self._model}}} {value}"]
        lines.append("# TYPE vllm:request_success_total counter")
        for reason, count in self._reasons.items():
            label = f'finished_reason="{reason}",{self._model}'
            lines.append(f"vllm:request_success_total{{{label}}} {count}")
        lines.append("# TYPE traj:faults_total counter")
        for fault, count in self.faults.items():
            lines.append(f'traj:faults_total{{fault="{fault}",{self._model}}} {count}')
        lines.append("# TYPE traj:late_seconds_max gauge")
        lines.append(f"traj:late_seconds_max{{{self._model}}} {self._live.late_s}")
        for name, counts in self._times.items():
            lines += self._histogram(f"vllm:{name}", counts)
        return "\n".join([*lines, ""])

    def _histogram(self, name: str, counts: list[float]) -> list[str]:
        sums = [int(value) for value in accumulate(counts[:-1])]
        bounds = [*map(str, _SECONDS), "+Inf"]
        rows = [f"# TYPE {name} histogram"]
        for bound, value in zip(bounds, sums, strict=True):
            rows.append(f'{name}_bucket{{le="{bound}",{self._model}}} {value}')
        rows += [f"{name}_sum{{{self._model}}} {counts[-1]}"]
        return [*rows, f"{name}_count{{{self._model}}} {sums[-1]}"]
