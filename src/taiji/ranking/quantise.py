"""Intra-user features: an embedding becomes M sparse ids by a Faiss quantiser.

Retraining changes nearly every code, so a codebook is trained once, on the users that the
ranking model trains on, and frozen with it. Faiss reads many a damaged index without
complaint: the file is opened only after its digest has been found right.

Shape suffixes: N users, D dimensions, M codes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Vectors
from taiji.config import FeaturesSection
from taiji.errors import ConfigError, DataError, MissingArtifactError
from taiji.store.files import digest_file, read_json, write_json

Codes = NDArray[np.int32]

_BLOCK_ROWS = 1 << 14

_INDEX, _DESCRIPTION = "codebook.faiss", "codebook.json"


@dataclass(frozen=True)
class Codebook:
    """A trained quantiser.

    Attributes:
        quantiser: The Faiss object.
        kind: `pq`, `opq` or `rq`.
        sub_vectors: M, how many codes stand for a vector.
        bits: Each code takes one of 2^bits values.
    """

    quantiser: faiss.Index
    kind: str
    sub_vectors: int
    bits: int

    @property
    def num_codes(self) -> int:
        """How many values a code can take."""
        return 1 << self.bits

    def compute_codes(self, embeddings_ND: Vectors) -> Codes:
        """Codes of shape (N, M), each in 0 .. num_codes - 1."""
        codes_NM = np.empty((len(embeddings_ND), self.sub_vectors), dtype=np.int32)
        for part in _blocks(len(embeddings_ND)):
            packed = self.quantiser.sa_encode(np.ascontiguousarray(embeddings_ND[part]))
            codes_NM[part] = faiss.unpack_bitstrings(packed, self.sub_vectors, self.bits)
        return codes_NM

    def reconstruction_error(self, embeddings_ND: Vectors) -> float:
        """Mean squared distance to the reconstruction; of unit vectors, the share that is lost."""
        errors_N = np.empty(len(embeddings_ND), dtype=np.float32)
        for part in _blocks(len(embeddings_ND)):
            given_ND = np.ascontiguousarray(embeddings_ND[part])
            decoded_ND = self.quantiser.sa_decode(self.quantiser.sa_encode(given_ND))
            errors_N[part] = ((given_ND - decoded_ND) ** 2).sum(axis=1)
        return float(errors_N.mean())


def _blocks(num_rows: int) -> Iterator[slice]:
    """Rows in blocks, so that what is made of them on the way stays small."""
    return (slice(start, start + _BLOCK_ROWS) for start in range(0, num_rows, _BLOCK_ROWS))


def train_codebook(embeddings_ND: Vectors, section: FeaturesSection, seed: int) -> Codebook:
    """Learn the 2^bits centroids behind each of the M codes.

    `pq` cuts the vector into M parts and quantises each by itself (the paper's). `opq` first
    learns a rotation that spreads what matters over the parts. `rq` quantises the whole vector,
    then M - 1 times what was left over: each code refines those before it.

    Raises:
        ConfigError: M does not divide D, or there are too few users for the quantiser.
        DataError: An embedding is NaN or infinite.
    """
    _check_trainable(embeddings_ND.shape, section)
    if not np.isfinite(embeddings_ND).all():
        raise DataError("features: an embedding is NaN or infinite: check the encoder")
    sizes = (embeddings_ND.shape[1], section.sub_vectors, section.bits)
    embeddings_ND = np.ascontiguousarray(embeddings_ND)
    quantiser: Any  # of three classes
    match section.quantiser:
        case "pq":
            quantiser = faiss.IndexPQ(*sizes)
            _prepare(quantiser.pq.cp, seed)
            quantiser.train(embeddings_ND)
        case "opq":
            quantiser = _rotated(embeddings_ND, sizes, seed)
        case "rq":
            quantiser = faiss.IndexResidualQuantizer(*sizes)
            _prepare(quantiser.rq.cp, seed)
            quantiser.train(embeddings_ND)
    return Codebook(quantiser, section.quantiser, section.sub_vectors, section.bits)


def _check_trainable(shape: tuple[int, ...], section: FeaturesSection) -> None:
    num_users, dimension = shape
    if section.quantiser != "rq" and dimension % section.sub_vectors:
        raise ConfigError(
            f"features.sub_vectors: {section.sub_vectors} does not divide the encoder's "
            f"{dimension} dimensions: choose a divisor, or features.quantiser=rq"
        )
    if num_users < 1 << section.bits:
        raise ConfigError(
            f"features.bits: 2^{section.bits} codes need as many users with text, and there are "
            f"{num_users}: lower features.bits or raise data.num_rank_users"
        )
    if section.quantiser == "opq" and num_users < dimension:
        # Faiss 1.15 writes past its buffers here, and the process ends without a word.
        raise ConfigError(
            f"features.quantiser: opq needs as many users with text as the encoder has dimensions, "
            f"and there are {num_users} for {dimension}: raise data.num_rank_users, or take pq or "
            "rq"
        )


def _rotated(embeddings_ND: Vectors, sizes: tuple[int, int, int], seed: int) -> faiss.Index:
    """A product quantiser behind a rotation; while the rotation is learned it has one too."""
    dimension, sub_vectors, _ = sizes
    inner, product = faiss.ProductQuantizer(*sizes), faiss.IndexPQ(*sizes)
    for clustering in (inner.cp, product.pq.cp):
        _prepare(clustering, seed)
    rotation = faiss.OPQMatrix(dimension, sub_vectors)
    rotation.pq = inner
    quantiser = faiss.IndexPreTransform(rotation, product)
    quantiser.train(embeddings_ND)
    rotation.pq = None  # a bare pointer, and its object ends here
    return quantiser


def _prepare(clustering: faiss.ClusteringParameters, seed: int) -> None:
    # Faiss asks for 39 points a centroid on stderr; a few hundred users are what there is.
    clustering.min_points_per_centroid = 1
    clustering.seed = seed


def code_use(codes_NM: Codes, num_codes: int) -> dict[str, float]:
    """How much of the codebook is at work, averaged over the M codes.

    Returns:
        `used`: share of the codes that occur. `entropy_bits`: of the codes' distribution; `bits`
        would be all codes equally often, 0 one code for everybody.
    """
    used, entropy = [], []
    for column in codes_NM.T:
        counts = np.bincount(column, minlength=num_codes)
        share = counts[counts > 0] / column.size
        used.append(share.size / num_codes)
        entropy.append(float(-(share * np.log2(share)).sum()))
    return {"used": float(np.mean(used)), "entropy_bits": float(np.mean(entropy)) + 0.0}


def collisions(codes_NM: Codes) -> float:
    """Share of the users who share all M codes with another, and so are one to a model."""
    if not len(codes_NM):
        return 0.0
    _, counts = np.unique(codes_NM, axis=0, return_counts=True)
    return float(counts[counts > 1].sum() / len(codes_NM))


def save_codebook(codebook: Codebook, folder: Path, figures: dict[str, float]) -> None:
    """Write the index, and beside it its digest, sizes and figures."""
    faiss.write_index(codebook.quantiser, str(folder / _INDEX))
    description = {
        "digest": digest_file(folder / _INDEX),
        "quantiser": codebook.kind,
        "sub_vectors": codebook.sub_vectors,
        "bits": codebook.bits,
        **figures,
    }
    write_json(description, folder / _DESCRIPTION)


def load_codebook(folder: Path) -> Codebook:
    """Read a codebook whose file is the one that was written.

    Raises:
        MissingArtifactError: A file is not there.
        DataError: The digest differs.
    """
    description = read_json(folder / _DESCRIPTION)
    path = folder / _INDEX
    if not path.is_file():
        raise MissingArtifactError(f"{path}: not there: rerun features")
    if digest_file(path) != description["digest"]:
        raise DataError(f"{path}: is not the file that was written: rerun features")
    return Codebook(
        faiss.read_index(str(path)),
        str(description["quantiser"]),
        int(description["sub_vectors"]),
        int(description["bits"]),
    )
