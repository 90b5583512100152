"""Who is in which arm, and whether it helped: cohorts, staged rollouts, guardrails. Imports the registry alone."""
