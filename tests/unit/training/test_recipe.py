from __future__ import annotations

import pytest

from training.data import Dataset
from training.data.examples import Preference, pair
from training.errors import RecipeError
from training.recipe import Recipe


def dataset(size: int) -> Dataset:
    return Dataset("pairs", tuple(pair(f"question {n}", f"answer {n}") for n in range(size)), tuple(range(1, size + 1)))


def test_a_small_dataset_is_seen_often_enough() -> None:
    for size in (2, 5, 18, 50, 90):
        recipe = Recipe.for_dataset(dataset(size))
        assert recipe.epochs * size >= 100 or recipe.epochs == 20, size


def test_a_large_dataset_gets_few_passes() -> None:
    small, large = Recipe.for_dataset(dataset(20)), Recipe.for_dataset(dataset(5000))
    assert large.epochs < small.epochs
    assert large.learning_rate < small.learning_rate
    assert large.batch_size > small.batch_size


def test_preference_pairs_get_a_lower_learning_rate() -> None:
    pairs = tuple(Preference(pair("a", "b").prompt, "good", "bad") for _ in range(20))
    assert Recipe.for_dataset(Dataset("preference", pairs, tuple(range(20)))).learning_rate < (
        Recipe.for_dataset(dataset(20)).learning_rate / 2
    )


def test_given_values_replace_the_defaults() -> None:
    given = {"epochs": 3, "learning_rate": "auto", "rank": None, "batch_size": 2}
    recipe, default = Recipe.for_dataset(dataset(20), given), Recipe.for_dataset(dataset(20))
    assert (recipe.epochs, recipe.batch_size) == (3.0, 2)
    assert (recipe.learning_rate, recipe.rank) == (default.learning_rate, default.rank)


def test_the_learning_rate_multiplier_is_a_factor_for_the_default() -> None:
    recipe = Recipe.for_dataset(dataset(20), {"learning_rate_multiplier": 2})
    assert recipe.learning_rate == 2 * Recipe.for_dataset(dataset(20)).learning_rate


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"n_epochs": 3}, "n_epochs: is unknown; a recipe has epochs, "),
        ({"epochs": 0}, "epochs: Input should be greater than 0"),
        ({"rank": 300}, "rank: Input should be less than or equal to 256"),
        ({"batch_size": "two"}, "batch_size: Input should be a valid integer"),
        ({"learning_rate_multiplier": 0}, "learning_rate_multiplier: must be a number greater than 0"),
        ({"learning_rate_multiplier": True}, "learning_rate_multiplier: must be a number greater than 0"),
    ],
)
def test_a_bad_value_is_named(given: dict[str, object], text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.for_dataset(dataset(20), given)
    assert text in str(caught.value)
    assert caught.value.field == next(iter(given))


def test_steps_follow_from_epochs_unless_they_are_given() -> None:
    recipe = Recipe(epochs=1.5, learning_rate=0.1, batch_size=4)
    assert recipe.steps(10) == 5
    assert recipe.model_copy(update={"max_steps": 3}).steps(10) == 3
