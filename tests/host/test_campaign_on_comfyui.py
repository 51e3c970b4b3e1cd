"""The fault campaign, smaller, against a real ComfyUI."""

from __future__ import annotations

import random

from tests.faults.proxy import Proxy
from tests.faults.test_campaign import SEED, client_of, faults, ids, require_as_planned, run_all
from tests.hosts import RunningHost


def test_jobs_with_faults(comfy_host: RunningHost) -> None:
    rng = random.Random(SEED)
    jobs = dict(zip(ids(rng), range(500_001, 500_201), strict=False))
    with Proxy(comfy_host.url, SEED).serving() as proxy:
        proxy.plan = {job: faults(rng) for job in jobs}
        planned = {job: list(plan) for job, plan in proxy.plan.items()}
        with client_of(proxy) as client:
            ended = run_all(client, jobs)
        require_as_planned(comfy_host, proxy, jobs, planned, ended)
    assert proxy.met.total() >= 200
