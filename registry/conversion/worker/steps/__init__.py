"""One module a family; each names its steps in `STEPS`: (job, recipe, trace) -> notes for the report."""
