import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylematch.data import celeba, fashion_mnist
from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema, PointGroup
from stylematch.errors import UserError

NAMES = st.text(min_size=1, max_size=12)
GROUPS = st.builds(
    lambda kind, name, labels: kind(name, tuple(labels)),
    st.sampled_from([BinaryGroup, CategoricalGroup, PointGroup]),
    NAMES,
    st.lists(NAMES, min_size=1, max_size=6),
)


@given(st.lists(GROUPS, max_size=4))
def test_json_and_back_is_the_same_schema(groups):
    schema = LabelSchema(tuple(groups))
    assert LabelSchema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    assert [group.width for group in schema.groups] == [len(group.labels) for group in groups]


def test_a_group_is_found_by_its_name():
    assert celeba.SCHEMA.group("attributes").width == 40
    assert celeba.SCHEMA.group("landmarks").kind == "points"
    assert fashion_mnist.SCHEMA.group("category").labels == fashion_mnist.CLASSES
    with pytest.raises(UserError, match="no label group 'age'; it has: attributes, landmarks"):
        celeba.SCHEMA.group("age")


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match="'sizes' has the unknown kind 'ordinal'"):
        LabelSchema.from_json([{"name": "sizes", "kind": "ordinal", "labels": ["S", "M"]}])
