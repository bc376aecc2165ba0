import numpy as np
import pytest

from stylematch.errors import StylematchError
from stylematch.report.join import JoinedFace
from stylematch.report.kept_votes import KeptVotes
from stylematch.report.page_rows import LabelledFace
from stylematch.report.votes import VoteKeeper, votes_path
from stylematch.style.neighbours import StyleVote, VoteSettings

STYLES = ("Casual", "Formal", "Sporty", "Street")


class Gallery:
    """Twenty faces on a circle; the nearest of an angle is the one with the angle nearest to it."""

    angles = np.arange(20) * 0.3

    def __len__(self):
        return len(self.angles)

    def search(self, queries, k):
        scores = np.cos(queries[:, :1].astype(np.float64) - self.angles)
        positions = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = type("Found", (), {})()
        found.positions, found.scores = positions, np.take_along_axis(scores, positions, 1)
        return found


def faces_of(keys):
    return [JoinedFace({"path": path, "face": face}, np.zeros(0, np.float32), []) for path, face in keys]


def labelled(position, style):
    return LabelledFace(str(position), style, ())


def test_votes_come_back_over_batches_and_partitions(tmp_path):
    voting = StyleVote(Gallery(), np.arange(20) % len(STYLES), len(STYLES), VoteSettings(k=7))
    keys = [[("a.jpg", 0), ("a.jpg", 1), ("b\\xff.jpg", 0)], [], [("c.jpg", 0)]]
    angles, expected = iter(np.linspace(0.1, 5.6, 4, dtype=np.float32)), []
    for partition, mine in enumerate(keys):
        keeper = VoteKeeper(tmp_path, partition, STYLES)
        for path, face in mine:  # a batch each
            vote = voting.vote(np.array([[next(angles)]], np.float32))
            keeper({"path": [path], "face": [face]}, vote)
            expected.append(vote)
        keeper.write()

    kept = KeptVotes((votes_path(tmp_path, number) for number in range(3)), labelled)
    flat = [key for mine in keys for key in mine]
    found = kept(faces_of(flat[:1])) + kept(faces_of(flat[1:]))

    for vote, one in zip(expected, found, strict=True):
        best = np.argsort(-vote.distribution[0], kind="stable")[:3]
        assert one.shares == [(STYLES[style], vote.distribution[0, style]) for style in best]
        assert [(int(face.id), similarity) for face, similarity in one.faces] == list(
            zip(vote.positions[0, :5].tolist(), vote.similarities[0, :5].tolist(), strict=True)
        )
        assert [face.style for face, _ in one.faces] == [STYLES[int(face.id) % len(STYLES)] for face, _ in one.faces]


@pytest.mark.parametrize("asked", [[("b.jpg", 0)], [("a.jpg", 1)], [("a.jpg", 0), ("a.jpg", 1)]])
def test_votes_of_other_faces_are_refused(tmp_path, asked):
    voting = StyleVote(Gallery(), np.arange(20) % len(STYLES), len(STYLES))
    keeper = VoteKeeper(tmp_path, 0, STYLES)
    keeper({"path": ["a.jpg"], "face": [0]}, voting.vote(np.ones((1, 1), np.float32)))
    keeper.write()
    with pytest.raises(StylematchError, match="do not fit"):
        KeptVotes(iter([votes_path(tmp_path, 0)]), labelled)(faces_of(asked))
