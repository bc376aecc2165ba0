"""Fixtures that all tests share: where the real data are, and what this machine has."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# Threads of torch and FAISS wait for each other in busy loops, on cores that the other test processes use, too. It is
# read when the first of them is imported.
if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))

# Hypothesis fails an example that takes over 200 ms, as any may on a machine that is busy with something else.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those of kind ``gpu``: bits are compared, and a GPU's depend on the batch."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests with Ray last: on Python 3.13, what a process forks that has used Ray is ended by Ray's library.

    Torch's loaders fork their workers, which died so where both came into one process (Ray 2.60).
    """
    items.sort(key=lambda item: item.path.name == "test_ray_engine.py")


def shared_data_root() -> Path | None:
    """Return the folder of real data (``$STYLEMATCH_DATA`` or ``../shared/data``), or None."""
    named = os.environ.get("STYLEMATCH_DATA")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return root if (root / "celeba").is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    root = shared_data_root()
    if root is None:
        pytest.skip("real data not found: set STYLEMATCH_DATA or put them in ../shared/data")
    return root


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def example_run(tmp_path_factory) -> Path:
    """A finished run over ``examples/photos`` with the shipped default; not to be changed."""
    from program import EXAMPLES, scored

    return scored(EXAMPLES, tmp_path_factory.mktemp("examples") / "out", "--report")


@pytest.fixture(scope="module")
def one_thread():
    """Torch's threads wait for each other in busy loops, which takes minutes on cores that others use too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def axe(request):
    """A function that returns a page's serious accessibility faults."""
    from axe import fetch_axe, serious_faults

    source = fetch_axe(Path(request.config.cache.mkdir("axe-core")))
    return lambda page: serious_faults(page, source)


@pytest.fixture(scope="session")
def server():
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """An S3 client with an empty bucket ``photos``; the environment says where the server is."""
    import boto3

    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    for page in client.list_objects_v2(Bucket="photos").get("Contents", ()):
        client.delete_object(Bucket="photos", Key=page["Key"])
    client.delete_bucket(Bucket="photos")


def pytest_collection_finish() -> None:
    """What is imported stays to the end: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """DuckDB reports what is left at the end as leaked."""
    gc.unfreeze()
