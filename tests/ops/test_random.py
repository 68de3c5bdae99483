import pytest
import torch

from nerf_app.ops import random
from nerf_app.ops.random import reference
from tests.parity import runnable

PUBLISHED = [  # Random123's known answers for philox4x32-10: counter, key, result
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, key, answer", PUBLISHED)
def test_the_generator_gives_the_published_answers(counter, key, answer):
    given = reference.scramble([torch.tensor([word]) for word in words(counter)], tuple(words(key)))
    assert [int(word) for word in given] == words(answer)


@pytest.mark.parametrize("backend", runnable(random.IMPLEMENTATIONS))
def test_seed_and_purpose_are_the_key_and_index_and_step_the_counter(backend):
    module = random.IMPLEMENTATIONS[backend]()
    assert module.philox(0, 0, 0, torch.tensor([0])).tolist() == [words(PUBLISHED[0][2])]
    index, seed, purpose, step = 0x13198A2E243F6A88, 0xA4093822, 0x299F31D0, 0x85A308D3
    counter = [torch.tensor([word]) for word in (0x243F6A88, step, 0x13198A2E, 0)]
    assert module.philox(seed, purpose, step, torch.tensor([index])).tolist() == [
        [int(word) for word in reference.scramble(counter, (seed, purpose))]]


@pytest.mark.parametrize("backend", runnable(random.IMPLEMENTATIONS))
@pytest.mark.parametrize("count", [1, 77, 0])
def test_every_backend_agrees_with_the_reference(backend, count):
    module = random.IMPLEMENTATIONS[backend]()
    indices = torch.randint(2**40, (count,))
    assert torch.equal(module.philox(3, 1, 77, indices), reference.philox(3, 1, 77, indices))
    assert torch.equal(module.uniform(3, 1, 77, indices), reference.uniform(3, 1, 77, indices))


def test_a_number_does_not_depend_on_the_others_asked_for():
    together = reference.uniform(5, 2, 9, torch.arange(100))
    assert torch.equal(reference.uniform(5, 2, 9, torch.tensor([42, 7])), together[[42, 7]])


def test_numbers_are_the_top_24_bits_of_the_words_and_never_one():
    indices = torch.arange(50_000)
    numbers = reference.uniform(0, 0, 0, indices)
    assert numbers.dtype == torch.float32
    assert torch.equal((numbers.double() * 2**24).long(), reference.philox(0, 0, 0, indices) >> 8)
    assert 0 <= float(numbers.min()) < 1e-4 and 1 - 1e-4 < float(numbers.max()) < 1


def test_streams_of_neighbouring_seeds_purposes_steps_and_words_are_uncorrelated():
    asks = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    numbers = torch.cat([reference.uniform(*ask, torch.arange(20_000)) for ask in asks], 1).double()  # [N, 16]
    correlation = torch.corrcoef(numbers.T) - torch.eye(16)
    assert float(correlation.abs().max()) < 5 / 20_000**0.5
    assert float((numbers.mean(0) - 0.5).abs().max()) < 5 / (12 * 20_000) ** 0.5
