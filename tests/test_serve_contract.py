"""The service keeps what its OpenAPI description promises, whatever it is sent."""

import contextlib

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from program import EXAMPLES
from schemathesis.specs.openapi.checks import positive_data_acceptance
from service import load_scorer, serving

EXAMPLES_EACH = 20


@pytest.fixture(scope="module")
def described(example_run):
    with serving(load_scorer(), run=example_run, allowed_hosts=("*",)) as service:
        # Bytes that are pictures, and pieces and mixtures of them: by chance alone no picture would ever come.
        files = [path.read_bytes() for path in sorted(EXAMPLES.rglob("*.*")) if path.stat().st_size < 200_000]
        cut = st.tuples(st.sampled_from(files), st.integers(0, 3000)).map(lambda pair: pair[0][: pair[1]])
        pictures = st.one_of(st.sampled_from(files), cut, st.binary(max_size=100))
        for kind in ("image/*", "application/octet-stream"):
            schemathesis.openapi.media_type(kind, pictures)
        yield schemathesis.openapi.from_asgi("/openapi.json", service.app)


def ask_for(operation, mode, seen: set[tuple[str, int]]) -> None:
    """Send an operation what one mode makes up, and check every answer against all that schemathesis knows."""
    # Well-formed bytes may still be no picture: that is refused with a code, and breaks no promise.
    left_out = [positive_data_acceptance] if operation.path == "/score" else []

    @hypothesis.settings(
        max_examples=EXAMPLES_EACH,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        response = case.call_and_validate(excluded_checks=left_out)
        seen.add((operation.path, response.status_code))

    ask()


def test_no_fault_is_found(described):
    operations = [result.ok() for result in described.get_all_operations()]
    assert {(operation.method, operation.path) for operation in operations} >= {("post", "/score"), ("get", "/metrics")}
    seen: set[tuple[str, int]] = set()
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # an operation without input takes no wrong one
                ask_for(operation, mode, seen)
    assert {("/score", 200), ("/score", 415), ("/score", 422), ("/items/picture", 404), ("/info", 200)} <= seen
