"""A peer that has one environment, of a hundred frames a second."""

from serving import serve


def describe():
    return {"packages": {"fake": "1"}, "cases": ["pusht/state"]}


def step(case, count, episode):
    return {"seconds": count / 100.0}


serve({"describe": describe, "step": step})
