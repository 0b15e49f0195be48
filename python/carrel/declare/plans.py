"""``_plans.yaml``: named bundles of quotas, sandbox limits and features."""

from pydantic import Field

from carrel.declare.base import Declared, Name
from carrel.declare.tenant import Plan


class Plans(Declared):
    """The operator's plans by name."""

    plans: dict[Name, Plan] = Field(default_factory=dict, description="Each plan under its name.")
