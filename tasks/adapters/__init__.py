"""Tasks of other suites, run as ours: lm-eval, verifiers, Inspect (`docs/adapters.md`)."""
