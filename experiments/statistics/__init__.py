"""Statistics of experiments: pure functions on counts, sums and histograms.

| module        | what for                                                                          |
|---------------|-----------------------------------------------------------------------------------|
| `balance`     | do the arms have the shares that were planned (SRM)?                              |
| `estimates`   | treatment minus control for shares and means; fixed-horizon intervals; CUPED      |
| `sequences`   | bounds that hold at every look, for guardrails                                    |
| `rare`        | the same for rare events, on counts                                               |
| `latency`     | one number per device from its histogram                                          |
| `multiplicity`| many questions asked at once                                                      |
| `combining`   | over phases, over device classes; small classes in tiers                          |
| `planning`    | what can be seen with so many units                                               |

Those that import scipy are for the worker alone: it costs a second and 50 MB, which no web process should pay.
"""
