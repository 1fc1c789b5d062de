"""Configurations of other gateways turned into ours: ``litellm_config``, its models in ``litellm_models``."""
