"""What ``bursar.yaml`` can say of model servers that we start ourselves."""

from dataclasses import field

from collector.frozen import dataclass
from collector.settings import Address, Duration, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One vLLM server."""

    model: str
    """A folder of this machine, or a name on the hub."""
    revision: str = ""
    """Commit of a model from the hub; required there, so that what is served never changes by itself."""
    profile: tuple[str, ...] = ("balanced",)
    """Sets of vLLM options, later ones winning; `bursar inference --profiles` lists them."""
    listen: Address = Address("127.0.0.1", 8000)
    """Where it answers; beyond this machine only with VLLM_API_KEY in its environment."""
    served_name: str = ""
    """What callers call the model; the model's own name without it."""
    gpus: tuple[str, ...] = ()
    """GPUs by index or UUID, or MIG slices by UUID; all that there are without it."""
    options: dict[str, str] = field(default_factory=dict)
    """More vLLM options, by their long names without dashes; they win over the profiles."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables for the server alone."""
    allow_unsafe: tuple[str, ...] = ()
    """Dangerous options that are meant, by name; also ``revision`` and ``version``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Model servers that ``bursar inference`` starts and watches."""

    vllm: str = "vllm"
    """The vllm command; it has an environment of its own."""
    servers: dict[str, ServerConfig] = field(default_factory=dict)
    """By name. Give their addresses to an upstream of kind vllm as its replicas."""
    ready_within: Duration = Duration(1800)
    """A server that is not ready after so long is started again: weights may have to be loaded first."""
    drain: Duration = Duration(40)
    """How long a server may take to end."""
    log_size: Size = Size(20 << 20)
    """Of a server's log file; one older file is kept beside it."""
    profiling: bool = False
    """Let operators ask a server for a bounded profile (`bursar profile`)."""
