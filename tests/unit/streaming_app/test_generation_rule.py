"""What a reader drops."""

from hypothesis import given
from hypothesis import strategies as st

from streaming_app.generation_rule import GenerationRule

GENERATIONS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)))


def answer(partition: int, generation: int) -> dict[str, int]:
    return {"source_partition": partition, "generation": generation}


@given(GENERATIONS)
def test_the_generations_that_count_never_fall_within_a_partition(given: list[tuple[int, int]]) -> None:
    rule = GenerationRule()
    counting = [pair for pair in given if rule.counts(answer(*pair))]
    for partition in range(3):
        generations = [generation for number, generation in counting if number == partition]
        assert generations == sorted(generations)


@given(GENERATIONS)
def test_nothing_is_dropped_unless_a_later_generation_stood_before_it(given: list[tuple[int, int]]) -> None:
    rule = GenerationRule()
    for place, (partition, generation) in enumerate(given):
        before = [other for number, other in given[:place] if number == partition]
        assert rule.counts(answer(partition, generation)) == (generation >= max(before, default=0))


def test_answers_from_before_there_were_generations_count() -> None:
    assert GenerationRule().counts({"source_partition": 0})
