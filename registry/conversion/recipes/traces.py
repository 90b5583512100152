"""The traces: what is made of a source in the heavy room, for recipes to start from."""

from registry.conversion.recipes.recipe import TRACE, Trace

TRACES = (Trace(TRACE, "trace"),)
