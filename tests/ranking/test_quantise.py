import numpy as np
import pytest

from taiji.config import FeaturesSection
from taiji.errors import ConfigError, DataError, MissingArtifactError
from taiji.ranking.quantise import (
    code_use,
    collisions,
    load_codebook,
    save_codebook,
    train_codebook,
)

SECTION = FeaturesSection(sub_vectors=4, bits=3)
KINDS = ("pq", "opq", "rq")


def unit_vectors(rows=60, dimension=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def section(kind, bits=3):
    return FeaturesSection(sub_vectors=4, bits=bits, quantiser=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_ids_and_decode_to_something_nearer_than_nothing(kind, capfd):
    vectors = unit_vectors()
    codebook = train_codebook(vectors, section(kind), seed=0)
    codes = codebook.compute_codes(vectors)
    assert codes.shape == (60, 4)
    assert codes.min() >= 0
    assert codes.max() < codebook.num_codes == 8
    assert codebook.reconstruction_error(vectors) < 0.6  # 1 would be the empty code
    assert capfd.readouterr() == ("", "")  # Faiss complains on stderr when points are few


def test_more_bits_lose_less():
    vectors = unit_vectors(200)
    errors = [
        train_codebook(
            vectors, FeaturesSection(sub_vectors=4, bits=bits), seed=0
        ).reconstruction_error(vectors)
        for bits in (2, 4, 6)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_a_rotation_helps_where_parts_of_the_vector_go_together():
    # Vectors differ in four directions, each of which runs through all dimensions.
    random = np.random.default_rng(3)
    spread = random.normal(size=(400, 4)) @ random.normal(size=(4, 16))
    vectors = (spread / np.linalg.norm(spread, axis=1, keepdims=True)).astype(np.float32)
    lost = {kind: train_codebook(vectors, section(kind), 0).reconstruction_error(vectors)
            for kind in KINDS}  # fmt: skip
    assert lost["opq"] < 0.8 * lost["pq"]
    assert lost["rq"] < lost["pq"]


def test_each_residual_code_refines_those_before_it():
    vectors = unit_vectors(200)
    errors = [
        train_codebook(
            vectors, FeaturesSection(sub_vectors=number, bits=3, quantiser="rq"), seed=0
        ).reconstruction_error(vectors)
        for number in (1, 2, 3)  # none of them needs to divide the dimension
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_codes(kind):
    vectors = unit_vectors()
    first, second, other = (train_codebook(vectors, section(kind), seed) for seed in (5, 5, 6))
    assert (first.compute_codes(vectors) == second.compute_codes(vectors)).all()
    assert (first.compute_codes(vectors) != other.compute_codes(vectors)).any()


def test_no_users_have_no_codes():
    codebook = train_codebook(unit_vectors(), SECTION, seed=0)
    assert codebook.compute_codes(np.empty((0, 16), dtype=np.float32)).shape == (0, 4)


def test_code_use_by_hand():
    # column 0: codes 0 and 1 evenly, 1 bit and half of 4; column 1: one code, 0 bits and a quarter
    codes = np.array([[0, 3], [1, 3], [0, 3], [1, 3]], dtype=np.int32)
    assert code_use(codes, 4) == {"used": pytest.approx(0.375), "entropy_bits": 0.5}


def test_collisions_by_hand():
    # the first, third and fourth share all codes: 3 of 5
    codes = np.array([[0, 3], [1, 3], [0, 3], [0, 3], [0, 2]], dtype=np.int32)
    assert collisions(codes) == pytest.approx(0.6)
    assert collisions(codes[:2]) == 0.0
    assert collisions(codes[:0]) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_codebook_gives_the_same_codes(kind, tmp_path):
    vectors = unit_vectors()
    codebook = train_codebook(vectors, section(kind), seed=0)
    save_codebook(codebook, tmp_path, {"used": 1.0})
    restored = load_codebook(tmp_path)
    assert restored.kind == kind
    assert (restored.compute_codes(vectors) == codebook.compute_codes(vectors)).all()


def test_a_single_flipped_bit_is_found_before_faiss_sees_it(tmp_path):
    save_codebook(train_codebook(unit_vectors(), SECTION, seed=0), tmp_path, {})
    path = tmp_path / "codebook.faiss"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not the file that was written"):
        load_codebook(tmp_path)
    path.unlink()
    with pytest.raises(MissingArtifactError, match="rerun features"):
        load_codebook(tmp_path)


@pytest.mark.parametrize(
    ("vectors", "settings", "says"),
    [
        (unit_vectors(), FeaturesSection(sub_vectors=5, bits=3), "features.sub_vectors"),
        (unit_vectors(7), SECTION, "features.bits"),
        (unit_vectors(15), section("opq"), "features.quantiser: opq needs"),
    ],
)
def test_a_codebook_that_cannot_be_trained_says_what_to_change(vectors, settings, says):
    with pytest.raises(ConfigError, match=says):
        train_codebook(vectors, settings, seed=0)


def test_vectors_that_are_not_finite_are_refused():
    vectors = unit_vectors()
    vectors[3, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        train_codebook(vectors, SECTION, seed=0)
