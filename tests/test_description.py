"""What is wrong with a file that says what lies beside it is one sentence, whichever of the three it is."""

import json

import pytest

from stylematch.errors import UserError
from stylematch.pipelines.indexing.catalog_files import read_catalog
from stylematch.pipelines.indexing.shards import read_description
from stylematch.search.infos import index_info

OF_EMBEDDINGS = {"dim": 2, "count": 0, "bundle_sha256": "", "source": "", "licence": ""}
OF_AN_INDEX = OF_EMBEDDINGS | {"storage": "float16", "bytes_per_vector": 4, "files": {}}
READERS = [
    (index_info, "infos.json", "index build", {"kind": "faces", "attribute_names": [], **OF_AN_INDEX}),
    (read_description, "embeddings.json", "embed", {"kind": "items", "categories": [], **OF_EMBEDDINGS}),
    (read_catalog, "catalog.json", "catalog build", {"sources": [], "given": []}),
]
each_reader = pytest.mark.parametrize(("read", "name", "command", "whole"), READERS)


@each_reader
def test_a_whole_one_is_read_and_whatever_it_lacks_is_named(tmp_path, read, name, command, whole):
    path = tmp_path / name
    path.write_text(json.dumps(whole | {"more": 1}))
    assert read(tmp_path) == whole | {"more": 1}
    for key in whole:
        path.write_text(json.dumps({other: value for other, value in whole.items() if other != key}))
        with pytest.raises(UserError, match=f"{name} lacks {key} .*again"):
            read(tmp_path)


@each_reader
@pytest.mark.parametrize("content", ["", "{", "\xff", "[" * 100_000])
def test_what_is_no_json_is_damaged(tmp_path, read, name, command, whole, content):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=f"{name} is damaged .*again"):
        read(tmp_path)


@each_reader
@pytest.mark.parametrize("content", ["[]", "null", '"kind"'])
def test_other_json_lacks_everything(tmp_path, read, name, command, whole, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} lacks .*again"):
        read(tmp_path)


@each_reader
def test_where_there_is_none_the_command_that_writes_it_is_named(tmp_path, read, name, command, whole):
    with pytest.raises(UserError, match=f"is not an? .*: {name} cannot be read .*'stylematch-batch {command}'"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["shoes", None, ["faces"]])
@pytest.mark.parametrize(("read", "name", "command", "whole"), READERS[:2])
def test_a_kind_that_there_is_not_is_named(tmp_path, read, name, command, whole, kind):
    (tmp_path / name).write_text(json.dumps(whole | {"kind": kind}))
    with pytest.raises(UserError, match=r"'kind' is .*, not one of faces, items; .*again"):
        read(tmp_path)


@each_reader
def test_what_a_key_cannot_be_is_named(tmp_path, read, name, command, whole):
    for key, value in whole.items():
        for wrong in ([3], ["a", None], True, None, *([] if isinstance(value, str) else ["5"])):
            if key == "kind" or (key == "bytes_per_vector" and wrong == 4.5):
                continue
            (tmp_path / name).write_text(json.dumps(whole | {key: wrong}))
            with pytest.raises(UserError, match=f"{name}: '{key}' is .*, which it cannot be; .*again"):
                read(tmp_path)
