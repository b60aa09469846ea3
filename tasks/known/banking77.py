"""What a bank's customer asks about, one of 77 intents (Casanueva et al., 2020, "Efficient Intent
Detection with Dual Sentence Encoders"): `mteb/banking77`, which has the texts and the names.

The intents stand in the instruction: repeated with every demo they would fill a small model's
context. A label is asked for and accepted with spaces or with underscores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.known.hub_task import HubTask, Source
from tasks.labels import LabelTask
from tasks.text import normalize
from tasks.types import Example, SplitName

FAMILIES: Mapping[str, str] = {
    "getting and keeping a card": """activate_my_card, card_about_to_expire, card_acceptance,
        card_arrival, card_delivery_estimate, card_linking, card_not_working, card_swallowed,
        change_pin, compromised_card, contactless_not_working, disposable_card_limits,
        get_disposable_virtual_card, get_physical_card, getting_spare_card, getting_virtual_card,
        lost_or_stolen_card, order_physical_card, passcode_forgotten, pin_blocked,
        virtual_card_not_working, visa_or_mastercard""",
    "paying by card": """apple_pay_or_google_pay, card_payment_fee_charged,
        card_payment_not_recognised, card_payment_wrong_exchange_rate, declined_card_payment,
        direct_debit_payment_not_recognised, extra_charge_on_statement, pending_card_payment,
        refund_not_showing_up, request_refund, reverted_card_payment, transaction_charged_twice""",
    "cash": """atm_support, cash_withdrawal_charge, cash_withdrawal_not_recognised,
        declined_cash_withdrawal, pending_cash_withdrawal, wrong_amount_of_cash_received,
        wrong_exchange_rate_for_cash_withdrawal""",
    "transfers": """balance_not_updated_after_bank_transfer, beneficiary_not_allowed,
        cancel_transfer, declined_transfer, failed_transfer, pending_transfer, receiving_money,
        transfer_fee_charged, transfer_into_account, transfer_not_received_by_recipient,
        transfer_timing""",
    "topping up": """automatic_top_up, balance_not_updated_after_cheque_or_cash_deposit,
        pending_top_up, top_up_by_bank_transfer_charge, top_up_by_card_charge,
        top_up_by_cash_or_cheque, top_up_failed, top_up_limits, top_up_reverted,
        topping_up_by_card, verify_top_up""",
    "currencies": """exchange_charge, exchange_rate, exchange_via_app, fiat_currency_support,
        supported_cards_and_currencies""",
    "the account": """age_limit, country_support, edit_personal_details, lost_or_stolen_phone,
        terminate_account, unable_to_verify_identity, verify_my_identity, verify_source_of_funds,
        why_verify_identity""",
}
LABELS = {
    label.strip().replace("_", " "): family
    for family, listed in FAMILIES.items()
    for label in listed.split(",")
}
FAILURES = {
    "empty": "There is no word in the answer.",
    "extra_text": "The right intent, and no other, with words around it.",
    "several": "More than one intent.",
    "invented": "One or two words that name no intent.",
    "no_choice": "A longer text that names no intent, such as a reply.",
    "same_family": "Another intent about the same matter (card arrival: card linking).",
    "wrong_family": "An intent about another matter (card arrival: exchange rate).",
}
ADVICE = {
    "empty": "The answer is empty",
    "extra_text": "The answer must be the intent and nothing else",
    "several": "Name one intent only",
    "invented": "There is no such intent in the list",
    "no_choice": "The answer must name an intent from the list, not reply to the message",
}
COLUMNS = ("text", "label_text")
SOURCES: Mapping[SplitName, Source] = {
    "train": Source("mteb/banking77", None, "train", COLUMNS),
    "test": Source("mteb/banking77", None, "test", COLUMNS),
}


class Banking77(HubTask, LabelTask):
    """10,003 messages for train, 500 of them cut off as dev, and 3,080 for test."""

    name = "banking77"
    instruction = (
        f"Choose the intent of the message from this list: {', '.join(sorted(LABELS))}. "
        "Answer with the intent only."
    )
    inputs = ("message",)
    output = "intent"
    labels, confused, wrong = LABELS, "same_family", "wrong_family"
    failure_classes = FAILURES
    advice = ADVICE
    elsewhere = '"{label}" is another intent ({about})'
    told = 'the intent of this message is "{label}" ({about}).'
    sources = SOURCES

    def build(self, row: Mapping[str, Any], id: str) -> Example:
        label = self.read(row["label_text"])
        if label not in LABELS:
            raise ValueError(f'"{label}" is none of the 77 intents')
        meta = {"family": LABELS[label], "words": len(row["text"].split())}
        return Example(id, {"message": row["text"]}, label, meta)

    def read(self, text: str) -> str:
        return normalize(text.replace("_", " "))

    def confusable(self, a: str, b: str) -> bool:
        return LABELS[a] == LABELS[b]
