"""The methods of a probe that look closer at single texts."""

from mixtral_probe.corpus import Source, read_corpus
from mixtral_probe.experiments.logit_lens import logit_lens
from mixtral_probe.model import MixtralForCausalLM
from mixtral_probe.run.attention_choice import AttentionChoice, attention_plan
from mixtral_probe.run.plan import plan
from mixtral_probe.run.retrace import check_model, retrace, window_tokens
from mixtral_probe.tokenizer import Tokenizer
from mixtral_probe.trace import Result, Trace


class LensMethods:
    """What can be asked about single texts; a part of ``Probe``."""

    model: MixtralForCausalLM
    tokenizer: Tokenizer

    def retrace(self, trace: Trace, *, document: int = 0, chunk: int = 0, attention: AttentionChoice = "all") -> Trace:
        """One window of a trace run again, to see what the trace did not keep: a trace of that window alone.

        Args:
            trace: made with this model.
            document, chunk: the window.
            attention: layers and heads to record this time, as in ``trace``.

        Raises:
            InputError: the trace was made with another model, or lacks the window or its token ids.
        """
        planned = attention_plan(attention, self.model.config)
        return retrace(self.model, trace, document=document, chunk=chunk, attention=planned)

    def logit_lens(self, source: Source, *, top: int = 5, window: int | None = None) -> Result:
        """What every layer would predict, for ``tables.logit_lens`` and ``tables.logit_lens_tokens``.

        Args:
            source: as in ``trace``.
            top: predictions kept of each layer and token.
            window: as in ``trace``.

        Raises:
            InputError: something asked for does not fit; the sentence says what to do.
        """
        limit = self.model.config.max_position_embeddings if window is None else window
        planned = plan(read_corpus(source), self.tokenizer, limit)
        names = [str(name) for name in planned.documents["id"]]
        return logit_lens(self.model, self.tokenizer, planned.tokens, documents=names, top=top)

    def logit_lens_again(self, trace: Trace, *, document: int = 0, chunk: int = 0, top: int = 5) -> Result:
        """The same of one window of a trace made with this model.

        Raises:
            InputError: the trace was made with another model, or lacks the window or its token ids.
        """
        check_model(self.model, trace)
        tokens = window_tokens(trace, document, chunk)
        names = [str(trace.documents["id"].iloc[document])]
        return logit_lens(self.model, self.tokenizer, tokens, documents=names, top=top)
