"""How a spec names another model than the one under study: to write proposals, or to judge.

No torch here: the command line reads this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lm.ledger import Ledger

if TYPE_CHECKING:
    from lm.endpoint import EndpointModel
    from lm.hf import HFModel


class ModelChoice(BaseModel):
    """A local `model` (as in the spec's `model`), or, with `endpoint`, the model of that name at an
    OpenAI-compatible address such as `http://localhost:8000/v1`. `key_env` names the environment
    variable with the key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    endpoint: str | None = None
    key_env: str | None = None

    @model_validator(mode="after")
    def _key_of_an_endpoint(self) -> Self:
        if self.key_env and not self.endpoint:
            raise ValueError("key_env: a local model needs no key; write endpoint, too")
        return self

    def remote(self, ledger: Ledger | None = None, **options: Any) -> EndpointModel:
        """The model at the endpoint. Asks nothing yet; raises ModelError for a bad address."""
        from lm.endpoint import EndpointModel

        assert self.endpoint is not None
        return EndpointModel(self.endpoint, self.model, self.key_env, ledger, **options)

    def open(self, ledger: Ledger | None = None) -> EndpointModel | HFModel:
        """Either of the two; a local one is loaded now. Raises ModelError."""
        if self.endpoint is not None:
            return self.remote(ledger)
        from lm.hf import load_model

        return load_model(self.model, ledger=ledger)
