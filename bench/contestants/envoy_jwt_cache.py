"""Envoy with the cache of verified tokens that its token filter has, which is off unless it is asked for."""
from contestants import envoy

VERSION = envoy.VERSION


def start(work, ctx):
    if not work.startswith("jwt_"):
        return {"left_out": "the same as envoy"}
    return envoy.start(work, ctx, cache=True)
