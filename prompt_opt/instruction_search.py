"""What the optimizers that write instructions share: somebody proposes, and how they are asked."""

from __future__ import annotations

from typing import Any, ClassVar

from evaluation.types import Policy
from lm.ledger import Purpose
from lm.types import LanguageModel
from prompt_opt.bench import Bench
from prompt_opt.prompt_method import PromptMethod
from prompt_opt.proposals import PlainProposals, proposal_sampling
from prompt_opt.speaker import Speaker

TOKENS = 1024  # of a proposal in DSPy's own format


class InstructionSearch(PromptMethod):
    """A prompt method with a proposer. While it searches, DSPy's default LM is the one that
    proposes, and the program under optimization brings its own."""

    purpose: ClassVar[Purpose] = "proposal"

    def _settings(self, bench: Bench) -> dict[str, Any]:
        settings = super()._settings(bench)
        speaker = self.proposer(bench)
        adapter = PlainProposals(bench, speaker) if self.config.plain() else None
        return {**settings, "lm": speaker.lm, "adapter": adapter}

    def proposer(self, bench: Bench) -> Speaker:
        chosen = self.config.reflection
        model = bench.engine.student.model if chosen is None else self._other(bench)
        tokens = TOKENS if chosen is None else chosen.max_tokens
        sampling = proposal_sampling(bench.context.sampling, tokens)
        return bench.engine.speaker(model, sampling, self.purpose)

    def _other(self, bench: Bench) -> LanguageModel:
        chosen = self.config.reflection
        assert chosen is not None
        if chosen.endpoint is None:
            return bench.context.open(Policy(chosen.model, bench.incoming))
        from lm.endpoint import EndpointModel

        return EndpointModel(
            chosen.endpoint, chosen.model, key_env=chosen.key_env, ledger=bench.context.ledger
        )
