"""Tiers by card size, and the numbers that follow from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.memory import GIB, Card, SwapRule, Tier, TierRules, plan

RULES = TierRules()


def card(gib: float | None, *, free: float | None = None, gpu: bool = True) -> Card:
    total = None if gib is None else int(gib * GIB)
    return Card("a card", gpu, total, None if free is None else int(free * GIB))


@pytest.mark.parametrize(
    ("gib", "tier"),
    [
        (None, Tier.NONE),
        (0, Tier.NONE),
        (4, Tier.STANDARD),
        (8, Tier.STANDARD),
        (12, Tier.STANDARD),
        (24, Tier.STANDARD),
        (48, Tier.STANDARD),
        (50, Tier.STANDARD),
        (51, Tier.LARGE),
        (80, Tier.LARGE),
        (96, Tier.LARGE),
        (141, Tier.LARGE),
    ],
)
def test_tier_by_card_size(gib: float | None, tier: Tier) -> None:
    assert plan(card(gib), RULES).tier is tier


@pytest.mark.parametrize("gib", [60, 96, 119])
def test_a_gpu_that_shares_the_machines_ram_is_not_large_unless_somebody_says_so(gib: float) -> None:
    shared = replace(card(gib, free=gib), shares_ram=True)
    decided = plan(shared, RULES)
    assert decided.tier is Tier.STANDARD
    assert "it is the machine's RAM" in decided.why
    assert not decided.high_vram
    assert not decided.pin
    assert plan(shared, TierRules(mode="large")).tier is Tier.LARGE
    assert plan(card(gib, free=gib), RULES).tier is Tier.LARGE


def test_no_gpu_has_no_tier_whatever_the_configuration_says() -> None:
    for mode in ("auto", "large", "standard", "off"):
        decided = plan(card(80, gpu=False), TierRules(mode=mode))
        assert decided.tier is Tier.NONE
    assert "no GPU" in plan(card(80, gpu=False), RULES).why


def test_large_tier_sets_what_the_mission_names() -> None:
    decided = plan(card(80), RULES)
    assert decided.high_vram
    assert decided.pin
    assert decided.no_forced_offload
    assert decided.inference_bytes == 20 * GIB
    assert decided.swap == SwapRule(1.15, 2 * GIB)
    assert decided.low_vram_below == -GIB
    assert decided.process_share == 0.95


def test_standard_tier_leaves_every_number_to_the_user() -> None:
    decided = plan(card(24), RULES)
    assert (decided.high_vram, decided.pin, decided.no_forced_offload) == (False, False, False)
    assert (decided.inference_bytes, decided.swap, decided.low_vram_below, decided.process_share) == (
        None,
    ) * 4


def test_the_60_to_40_split_is_a_choice_of_the_standard_tier_alone() -> None:
    rules = TierRules(standard_inference_share=0.6)
    assert plan(card(24), rules).inference_bytes == int(24 * GIB * 0.6)
    assert plan(card(80), rules).inference_bytes == 20 * GIB


def test_a_large_card_that_another_program_fills_is_treated_as_a_small_one() -> None:
    decided = plan(card(80, free=30), RULES)
    assert decided.tier is Tier.STANDARD
    assert "30 GiB are free" in decided.why
    assert plan(card(80, free=45), RULES).tier is Tier.LARGE


def test_a_chosen_tier_wins_over_the_size() -> None:
    assert plan(card(24), TierRules(mode="large")).tier is Tier.LARGE
    assert plan(card(80), TierRules(mode="standard")).tier is Tier.STANDARD
    assert plan(card(80), TierRules(mode="off")).tier is Tier.NONE


def test_swap_budget_takes_the_larger_of_the_two() -> None:
    rule = SwapRule(1.15, 2 * GIB)
    assert rule.budget(10 * GIB) == int(10 * GIB / 1.15)
    assert rule.budget(40 * GIB) == 38 * GIB
    assert rule.budget(-GIB) == 0


@given(st.floats(-1e12, 1e12))
def test_swap_budget_is_never_negative_nor_more_than_there_is(available: float) -> None:
    budget = SwapRule(1.15, 2 * GIB).budget(available)
    assert 0 <= budget <= max(0.0, available)
