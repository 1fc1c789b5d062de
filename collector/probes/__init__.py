"""What the machines under the models say of themselves, and what that makes a token cost.

nvml          one GPU's figures, through NVIDIA's library; the only home of ``pynvml``
gpu_sample    what such a figure set is: every field may be missing on its own
gpu_probe     asks once a second in a thread, so that a hanging driver stalls nobody
gpu_export    samples as rows of ``gpu_samples`` and as Prometheus text
energy        joules drawn between two instants
vllm_metrics  a vLLM server's ``/metrics``, read by exact names and turned into differences
vllm_probe    reads every replica once a second
work_units    how much engine time a token takes: calibrated, from a roofline, or as configured
gpu_cost      the meter of a replica, split over requests to the last pico-USD
timelines     from attempts to the work that falls into a window
replica_costs the running books of one replica: samples and ended attempts in, charges out
gpu_prices    what a token costs at present, busy and loaded, and beside a provider
"""
