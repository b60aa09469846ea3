"""What the optimizers that write instructions share: somebody proposes, and how they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from dspy.utils.exceptions import AdapterParseError

from evaluation.types import Policy, ScoreFunction
from lm.ledger import Purpose
from lm.types import LanguageModel, PromptTooLong
from prompt_opt.bench import Bench
from prompt_opt.config_search import ReflectionConfig
from prompt_opt.prompt_method import PromptMethod
from prompt_opt.proposals import PlainProposals, proposal_sampling
from prompt_opt.speaker import Speaker
from tasks.types import Example

TOKENS = 1024  # of a proposal in DSPy's own format


class InstructionSearch(PromptMethod):
    """A prompt method with a proposer. While it searches, DSPy's default LM is the one that
    proposes, and the program under optimization brings its own."""

    purpose: ClassVar[Purpose] = "proposal"

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        """Also raises ModelError for an endpoint whose address or key will not do."""
        super().check(policy, train, dev, score)
        chosen: ReflectionConfig | None = self.config.reflection
        if chosen is not None and chosen.endpoint is not None:
            chosen.remote().check(self.purpose)

    def search(self, bench: Bench) -> None:
        """As `seek` does; ends early where the proposing model fails DSPy's format or window."""
        try:
            self.seek(bench)
        except Exception as error:
            if not (failure := _proposers(error)):
                raise
            bench.stop(
                f"the proposing model failed ({type(failure).__name__}); write proposals: plain, "
                "or name another model under reflection"
            )

    def seek(self, bench: Bench) -> None:
        """What `search` is to other methods."""
        raise NotImplementedError

    def _settings(self, bench: Bench) -> dict[str, Any]:
        settings = super()._settings(bench)
        speaker = bench.proposer = bench.proposer or self.proposer(bench)
        plain = PlainProposals(bench, speaker, self.rules()) if self.config.plain() else None
        return {**settings, "lm": speaker.lm, "adapter": plain}

    def rules(self) -> int:
        """How many rules a plain request for rules asks for."""
        return 3

    def proposer(self, bench: Bench) -> Speaker:
        chosen = self.config.reflection
        model = bench.engine.student.model if chosen is None else self._other(bench)
        tokens = TOKENS if chosen is None else chosen.max_tokens
        sampling = proposal_sampling(tokens)
        return bench.engine.speaker(model, sampling, self.purpose)

    def _other(self, bench: Bench) -> LanguageModel:
        chosen: ReflectionConfig | None = self.config.reflection
        assert chosen is not None
        if chosen.endpoint is None:
            return bench.context.open(Policy(chosen.model, bench.start))
        return chosen.remote(bench.context.ledger)


def _proposers(error: BaseException | None) -> BaseException | None:
    """What in the chain of `error` a proposer is to blame for. DSPy wraps some of it anew."""
    while error is not None and not isinstance(error, AdapterParseError | PromptTooLong):
        error = error.__cause__ or error.__context__
    return error
