"""How to read a report: the definition of every column, printed at the end of each one."""

from __future__ import annotations

from evaluation.judge import UNIVERSAL_FAILURES

_CLASSES = "\n".join(f"- *{name}*: {meaning}" for name, meaning in UNIVERSAL_FAILURES.items())

GUIDE = f"""\
## How to read it

An arm is a chain of methods that starts from the same model and prompt. All arms answered the
same test examples and were scored by the task's own scorer, whatever reward they trained on.

- **n**: test examples. **score**: mean of the task's score over them, samples of one example
  averaged first. Its 95 % interval is Wilson's where every score is 0 or 1, else a percentile
  bootstrap.
- **delta** (in points; in CSV, in score units): score minus the baseline's at the same seed; in
  the table of pairs, arm b's minus arm a's. Its 95 % interval is a paired
  percentile bootstrap over examples. Where all differences are equal, it allows for the share of
  other ones that n examples could have missed.
- **p**: two-sided, paired by example: McNemar's exact test where every score is 0 or 1, else a
  permutation test of the mean difference with 9,999 random sign flips.
- **p (Holm)**: adjusted for all comparisons of this report at once. The family is every pair of
  arms at every seed; both tables show p from this one family. Below 0.05 a difference is called
  beyond noise. It says nothing of other seeds or other tasks. Interval and p are found apart, so
  near the edge one may exclude zero and the other not, and the interval is not adjusted.
- **fixed**, **broken**: examples that score higher, or lower, than in the arm compared to.
- **rollouts**, **tokens out**, **train steps**, **seconds**: completions drawn to make the arm,
  their tokens, optimizer steps and wall time, along its whole chain. Stages that arms share
  count in full for each, though they ran once. Answers drawn to score on dev or test are not
  counted; the wall time of a stage includes its scoring on dev.
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
  both with another class, *still-correct* right in both.
- **weights**, **prompt**, **interaction** (where the spec says `attribution: true`): what of an
  arm's gain is due to what, from four policies with the same test examples: *base*, the *tuned
  prompt* on base weights, the *tuned weights* behind the base prompt, and *tuned both*, the arm.
  Weights = [(tuned weights - base) + (tuned both - tuned prompt)] / 2, prompt = [(tuned prompt -
  base) + (tuned both - tuned weights)] / 2: each averaged over the other's two levels.
  Interaction = tuned both - tuned prompt - tuned weights + base: what the two bring together
  beyond the sum of what each brings alone. Each is the mean of one figure an example, with a
  percentile bootstrap over examples and a permutation test with 9,999 random sign flips; neither
  is adjusted. Where an interval covers 0, the sentence below says that it cannot be told.
- **Tripped wires** and audits: what a stage found out about itself while it trained. A *note* is
  worth a look; *tripped* means that the gain may not be what it seems, or the stage not what it
  was meant to be. Neither chooses a checkpoint. `--table audits` lists the audits passed too.

Failure classes every task has, the first that holds; the task's own come after them:

{_CLASSES}
"""
