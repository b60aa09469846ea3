"""How to read a report: the definition of every column, printed at the end of each one."""

from __future__ import annotations

from evaluation.judge import UNIVERSAL_FAILURES

_CLASSES = "\n".join(f"- *{name}*: {meaning}" for name, meaning in UNIVERSAL_FAILURES.items())

GUIDE = f"""\
## How to read it

An arm is a chain of methods that starts from the same model and prompt. All arms answered the
same test examples and were scored by the task's own scorer, whatever reward they trained on.

- The paragraph on top follows from the tables by rule (`reports/recommendation.py`). It
  takes the best arm that beats the baseline beyond noise; a cheaper one where less than 3 points
  are lost and they are inside the noise, or cost ten times as much. Where nothing beats the
  baseline, it says whether that is known or cannot be told.
- **n**: test examples. **score**: mean of the task's score over them and over the arm's **seeds**,
  samples of one example averaged first. Its 95 % interval is Clopper and Pearson's exact one where
  every score is 0 or 1, else a Bayesian bootstrap with half an unseen example at 0 and one at 1.
- **delta** (in points; in CSV, in score units): score minus the baseline's over the seeds both
  have; in the table of pairs, arm b's minus arm a's. Its 95 % interval is paired by example:
  Tango's score interval where every score is 0 or 1, else the Bayesian bootstrap of the
  differences. docs/statistics.md says how often each holds the truth, by simulation.
- With several seeds, **seed sd** is the standard deviation between them, of the score or (in the
  table of pairs) of the delta. What seeds add to the uncertainty is in the interval and in p, with
  the few degrees of freedom that few seeds have: seeds count as drawn at random, as examples do.
- **p**: two-sided, paired by example: McNemar's exact test where every score is 0 or 1, else a
  permutation test of the mean difference with 9,999 random sign flips, or the p of the interval
  where that is larger. Over seeds that differ, it
  belongs to the interval.
- **p (Holm)**: adjusted for all comparisons of this report at once. The family is every pair of
  arms, over their seeds; all tables show p from this one family. Below 0.05 a difference is
  called beyond noise. It says nothing of other tasks, nor, with one seed, of other seeds. Interval
  and p are found apart, so near the edge one may exclude zero and the other not, and the interval
  is not adjusted. **p (worse)** (`compare --margin`) is one-sided, of "worse by the margin or
  more": below 0.025 it is not. It is not adjusted.
- **fixed**, **broken**: examples that score higher, or lower, than in the arm compared to; over
  seeds, in the mean.
- **mean@k**, **pass@k**: mean score of k answers to an example, and the chance that one of k is
  right, by the unbiased estimator.
- **rollouts**, **tokens out**, **train steps**, **seconds**: completions drawn to make the arm,
  their tokens, optimizer steps and wall time, along its whole chain; of one seed, on average.
  Stages that arms share count in full for each, though they ran once. Answers drawn to score on
  dev or test are not counted; the wall time of a stage includes its scoring on dev.
- In **Cost**, purpose *eval* is scoring on dev while learning, *training* the weight updates and
  *test* the final evaluation, *attribution* that of policies which are no arm's, *other* the wall
  time that none of these counts (loading, scoring, saving); **shared with**
  names arms that use some of the same work. **FLOPs** are an estimate: 2 N for each token read or
  written and 6 N for each trained, with N the model's weights (Kaplan et al., 2020,
  arXiv:2001.08361); for LoRA that is at most half too much. **peak GB**: the most memory (1e9
  bytes) the process, or the GPU, held in a stage. **$**: the seconds at the spec's
  `price_per_hour`.
- In **Budget**, *used* is what an arm spent of what the spec allowed each arm for its whole chain;
  a batch under way is not broken off, so it may be a little more.
- **Who was given the budget** (where the spec says `allocate: halving`): successive halving
  (Jamieson & Talwalkar, 2016). In each rung the arms still in it go on to a larger *budget*, are
  scored on all of dev, and the better part is *kept*; *dropped* arms were not opened on test, so
  nothing is known of them there. A score is the best policy's so far, chosen on some or all of the
  same dev examples, and so a little too high. *drawn*: what this rung has drawn, steps taken again
  after a pause included; stages shared with an arm above count there.
- In **Score against cost** an arm's curve has, from each measurement on dev on, the best dev score
  of the stage under way; it begins at cost 0 with the untouched policy. **area** is its mean height
  from 0 to the **common cost**, the most that every arm has spent on that axis; **dev start** and
  **dev end** are its ends. Prompt methods score samples of dev and weight methods all of it, so
  dev scores of different methods are not of the same examples. **test delta** is against the
  baseline, **cost per point** the whole cost divided by it in points, empty where nothing was
  gained; FLOPs and seconds leave scoring on dev by weight methods out, as rollouts do.
- **share** is of all answers of the arm. **kind**: *fixed* right in the second arm only,
  *broken* right in the first only, *still* wrong in both with the same class, *changed* wrong in
  both, a new class in place of the old one, *still-correct* right in both. *Unpaired* answers are
  of one arm only: the other was *(not asked)* for that sample of that example. `--table links`
  has the same flow as links between named nodes, as programs draw Sankey diagrams from; at each
  node they add up to the arm's answers of that class.
- **test reads** (`--table reads`): how often test has judged an arm of that name and seed. Dev is
  there to choose between variants, test to judge the one chosen; an arm changed and judged again
  may have been chosen by test. What other run folders read is not known here.
- **Again, on test examples never seen** (`tasklift recheck`): **test score** and **test delta** as
  above, all other columns on examples of test that the run had not asked, so that nothing can have
  been chosen by them unless **reads** is above 1; **p (Holm)** over these comparisons.
- **Stopped early** (where the spec says `stop_early`): arms whose evaluation ended after **n** of
  **of** test examples, as they were clearly worse than the arm **against** on the same ones. They
  stand in no other table. **at most**: with a chance of 1 - alpha the true difference is below it,
  however often it was looked at (a confidence sequence); the level is shared among all pairs.
- **Where an arm fails** lists systematic errors that nobody declared. *Failures concentrate* where
  a condition on the question (its `meta`, its words, its lengths, its gold answer), or two at once,
  holds; **fails** counts the answers to such questions that fail (as the class in **failure**, or
  in any way), **rate** is their share, **rate elsewhere** that of all other answers, **lift** (in
  CSV) the rate over that of all answers, **share** the share of all such failures that lie there.
  A class that its task gives to one kind of question only is found just there. *Wrong answers of
  one kind* are clusters told by a rule which can be checked in the records: "verb + "ed"" is an
  answer that equals the input called verb with "ed" behind it; **mostly** is the declared class
  most of them have, **where** the questions on which they concentrate.
  Both were found on one half of the examples (Fisher's exact test, false-discovery rate 10 %,
  Benjamini and Hochberg) and are listed only if the other half confirmed them: **p (Holm)** is its
  p, adjusted for all that was to be confirmed, and **on the held-out half** gives its counts, the
  ones that choosing has flattered least (only what they confirm is listed). In these tests all
  samples and seeds of one example are one case.
- **format** and **capability** (`--table format`) split what arm b gains over arm a in right
  answers: *format* is what comes from answers that failed on format in either of the two (not of
  the form asked for: empty, truncated, repetition, unparsable, and what the task declares),
  *error* from those where a scorer or program failed, *capability* the rest. They add up.
- **weights**, **prompt**, **interaction** (where the spec says `attribution: true`): what of an
  arm's gain is due to what, from four policies with the same test examples: *base*, the *tuned
  prompt* on base weights, the *tuned weights* behind the base prompt, and *tuned both*, the arm.
  Weights = [(tuned weights - base) + (tuned both - tuned prompt)] / 2, prompt = [(tuned prompt -
  base) + (tuned both - tuned weights)] / 2: each averaged over the other's two levels.
  Interaction = tuned both - tuned prompt - tuned weights + base: what the two bring together
  beyond the sum of what each brings alone. Each is the mean of one figure an example, with the
  Bayesian bootstrap over examples and a permutation test with 9,999 random sign flips; neither
  is adjusted. Where an interval covers 0, the sentence below says that it cannot be told.
- **Tripped wires** and audits: what a stage found out about itself while it trained. A *note* is
  worth a look; *tripped* means that the gain may not be what it seems, or the stage not what it
  was meant to be. Neither chooses a checkpoint. `--table audits` lists the audits passed too.

Failure classes every task has, the first that holds; the task's own come after them:

{_CLASSES}
"""
