"""The scripted model keeps the promises a real model keeps."""

from __future__ import annotations

from lm import LanguageModel, Sampling, ScriptedLM


def _chat(text):
    return [{"role": "user", "content": text}]


def _texts(rows):
    return [[c.text for c in row] for row in rows]


def test_it_is_a_language_model():
    model: LanguageModel = ScriptedLM(["a"])
    rows = model.generate([_chat("x"), _chat("yz")], Sampling(n=2), "eval")
    assert [len(row) for row in rows] == [2, 2]
    assert [row[0].prompt_tokens for row in rows] == [1, 2]
    assert model.logprobs([_chat("x")], [[1, 2, 3]]) == [[0.0, 0.0, 0.0]]
    assert model.generate([], Sampling(), "eval") == []
    assert model.ledger.usage["eval"].calls == 1


def test_a_list_is_read_in_order_and_again():
    model = ScriptedLM(["a", "b", "c"])
    assert _texts(model.generate([_chat("1"), _chat("2")], Sampling(n=2), "eval")) == [
        ["a", "b"],
        ["c", "a"],
    ]


def test_a_dict_answers_the_last_message():
    model = ScriptedLM({"q": "a"})
    chats = [[*_chat("other"), *_chat("q")], _chat("unknown")]
    assert _texts(model.generate(chats, Sampling(), "eval")) == [["a"], [""]]


def test_a_callable_gets_chat_and_sample():
    model = ScriptedLM(lambda chat, i: f"{chat[0]['content']}{i}")
    assert _texts(model.generate([_chat("x")], Sampling(n=3), "eval")) == [["x0", "x1", "x2"]]


def test_a_long_answer_is_cut_between_characters():
    answer = ScriptedLM(["aé"]).generate([_chat("x")], Sampling(max_tokens=2), "eval")[0][0]
    assert (answer.text, len(answer.token_ids), answer.finish_reason) == ("a", 2, "length")
    answer = ScriptedLM(["aé"]).generate([_chat("x")], Sampling(max_tokens=3), "eval")[0][0]
    assert (answer.text, answer.finish_reason) == ("aé", "stop")
    assert len(answer.logprobs) == len(answer.token_ids) == 3


def test_the_fingerprint_follows_the_script():
    one = ScriptedLM(["a"]).fingerprint()
    assert one == ScriptedLM(["a"]).fingerprint()
    assert one != ScriptedLM(["b"]).fingerprint()
    assert one != ScriptedLM(["a"], name="other").fingerprint()
