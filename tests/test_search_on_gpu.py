"""The GPU proposers: torch on the CPU here, both on CUDA where there is one; the answers are those of FAISS."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train or gpu extra")

from stylematch.search.exact import VectorIndex  # noqa: E402
from stylematch.search.on_gpu import TorchFlat  # noqa: E402

pytestmark = pytest.mark.train


def _index(count: int, dim: int) -> tuple[VectorIndex, np.ndarray]:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    vectors[count // 2 :] = vectors[: count - count // 2]  # every vector twice, so that ties must be broken by id
    return VectorIndex.build([f"v{n:05d}" for n in range(count)], vectors), rng.standard_normal((37, dim))


@pytest.mark.parametrize("k", [1, 7, 500])
def test_torch_proposes_what_faiss_answers(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = _index(3000, 24)
    expected = index.search(queries, k)
    proposer = TorchFlat(index.vectors(np.arange(len(index))), "cpu")
    asked: list[int] = []

    def counted(unit: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(count)
        return TorchFlat.search(proposer, unit, count)

    monkeypatch.setattr(proposer, "search", counted)
    monkeypatch.setattr(index, "_gpu", proposer)
    found = index.search(queries, k)
    assert asked, "the search did not go through torch"
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_chunks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = _index(400, 16)
    proposer = TorchFlat(index.vectors(np.arange(len(index))), "cpu")
    whole = proposer.search(queries.astype(np.float32), 5)
    monkeypatch.setattr("stylematch.search.on_gpu._SCORES_IN_FLIGHT", 3 * len(index))
    parts = proposer.search(queries.astype(np.float32), 5)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6)
    np.testing.assert_array_equal(np.sort(parts[1] % 200, axis=1), np.sort(whole[1] % 200, axis=1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or not asked for: -m gpu")
def test_cuda_answers_like_the_cpu(tmp_path_factory: pytest.TempPathFactory) -> None:
    index, queries = _index(20_000, 128)
    directory = tmp_path_factory.mktemp("index")
    index.save(directory)
    on_gpu = VectorIndex.load(directory, device="cuda")
    expected, found = index.search(queries, 15), on_gpu.search(queries, 15)
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.scores, expected.scores)
