import sys

import numpy as np
import pytest
from PIL import Image

from stylematch.errors import MissingExtraError
from stylematch.evaluate.bar_plots import plot_class_bars, plot_label_bars, plot_label_confusion
from stylematch.evaluate.metrics import binary_figures, categorical_figures
from stylematch.evaluate.plots import plot_confusion, plot_reliability

ODD = ["$x$ _cost_", "two\nlines \N{COAT}", "a name that goes on and on and on and on"]


def draw_all(folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (50, 3))
    labels[:, 2] = -1
    said = rng.random((50, 3))
    plot_label_bars(folder / "bars.png", binary_figures(said, labels, ODD)["per_label"], "odd $names$")
    plot_reliability(folder / "reliability.png", {"$before$": (said[:, 0], labels[:, 0] > 0)}, "reliability")
    plot_label_confusion(folder / "label-confusion.png", said, labels, ODD, "confusion by label")
    kinds = rng.integers(-1, 3, 50)
    plot_confusion(folder / "confusion.png", said, kinds, ODD, "confusion")
    plot_class_bars(folder / "classes.png", categorical_figures(said, kinds, ODD)["per_label"], "classes")
    return folder


@pytest.mark.filterwarnings("error")
def test_plots_are_pictures_with_equal_bytes(tmp_path):
    one, two = draw_all(tmp_path / "one"), draw_all(tmp_path / "two")
    assert len(list(one.iterdir())) == 5
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
        with Image.open(path) as picture:
            assert min(picture.size) > 250
            assert set(picture.info) == {"dpi"}  # no time, no version
            assert len(picture.convert("L").getcolors()) > 20


@pytest.mark.filterwarnings("error")
def test_of_many_classes_the_most_frequent_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    from matplotlib.axes import Axes

    drawn = []
    plain = Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda self, values, **rest: drawn.append(values) or plain(self, values, **rest)
    )
    labels = np.repeat(np.arange(40), np.arange(40))  # class 39 is the most frequent, class 0 never occurs
    said = labels.copy()
    said[labels == 39] = 3  # not among the 30 most frequent
    said[labels == 38] = 39
    plot_confusion(tmp_path / "c.png", np.eye(40)[said], labels, [f"class {k}" for k in range(40)], "many")
    shares = drawn[0]
    assert shares.shape == (30, 31)
    assert shares[0].tolist() == [0] * 30 + [1]
    assert shares[1].tolist() == [1] + [0] * 30
    assert (np.diag(shares)[2:] == 1).all()


@pytest.fixture
def bars(monkeypatch):
    """The bars that are drawn, by their legend: places and lengths."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    from matplotlib.axes import Axes

    drawn = {}
    plain = Axes.barh

    def barh(self, places, lengths, *, label, **rest):
        drawn[label] = np.asarray(lengths, float).tolist()
        return plain(self, places, lengths, label=label, **rest)

    monkeypatch.setattr(Axes, "barh", barh)
    return drawn


def test_the_answers_of_each_label_add_up(tmp_path, bars):
    labels = np.array([[1, 1], [1, -1], [1, 0], [0, 0], [0, -1]])
    said = np.array([[0.9, 0.1], [0.5, 0.9], [0.49, 0.2], [0.7, 0.8], [0.1, 0.9]])
    plot_label_confusion(tmp_path / "c.png", said, labels, ["a", "b"], "two")
    assert {name: np.round(shares, 3).tolist() for name, shares in bars.items()} == {
        "yes, rightly": [0.4, 0],
        "no, wrongly": [0.2, 0.333],
        "yes, wrongly": [0.2, 0.333],
        "no, rightly": [0.2, 0.333],
    }


def test_of_many_classes_the_most_frequent_have_bars(tmp_path, bars):
    labels = np.repeat(np.arange(40), np.arange(40))
    names = [f"class {k}" for k in range(40)]
    said = np.where(labels == 39, 38, labels)
    plot_class_bars(tmp_path / "c.png", categorical_figures(np.eye(40)[said], labels, names)["per_label"], "many")
    assert bars["recall"] == [0.0] + [1.0] * 29
    assert bars["precision"] == [0.0, pytest.approx(38 / 77, abs=1e-4)] + [1.0] * 28


def test_classes_without_a_picture_have_no_row(tmp_path, bars):
    figures = categorical_figures(np.eye(4)[[1, 3, 3]], np.array([1, 1, 3]), [f"class {k}" for k in range(4)])
    plot_class_bars(tmp_path / "c.png", figures["per_label"], "two of four")
    assert bars["recall"] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("kind", "axes", "error"),
    [
        ("binary", ["probability of yes", "share of yes"], "group (pooled error 0.250)"),
        ("categorical", ["confidence", "share of right answers"], "group (error 0.250)"),
    ],
)
def test_reliability_is_named_for_what_it_is(kind, axes, error, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    from matplotlib.figure import Figure

    drawn = []
    plain = Figure.subplots
    monkeypatch.setattr(Figure, "subplots", lambda self, *a, **k: drawn.append(plain(self, *a, **k)) or drawn[-1])
    curve = np.array([0.25, 0.75]), np.array([False, True])
    plot_reliability(tmp_path / "r.png", {"group": curve}, "title", kind)
    above, below = drawn[0]
    assert [below.get_xlabel(), above.get_ylabel()] == axes
    assert above.get_legend_handles_labels()[1][1] == error


@pytest.mark.filterwarnings("error")
def test_a_confusion_of_many_classes_has_no_empty_band(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    plot_confusion(tmp_path / "c.png", np.eye(30), np.arange(30), [f"class {k}" for k in range(30)], "thirty")
    with Image.open(tmp_path / "c.png") as picture:
        rows = np.flatnonzero((np.asarray(picture.convert("L")) < 128).any(1))
    assert rows[0] < 40
    assert picture.height - rows[-1] < 40


@pytest.mark.filterwarnings("error")
def test_nothing_to_draw_is_an_empty_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    nothing = binary_figures(np.zeros((0, 1)), np.zeros((0, 1), int), ["a"])["per_label"]
    plot_label_bars(tmp_path / "bars.png", nothing, "nothing")
    plot_reliability(tmp_path / "reliability.png", {"all": (np.zeros(0), np.zeros(0, bool))}, "nothing")
    plot_confusion(tmp_path / "confusion.png", np.zeros((0, 2)), np.zeros(0, int), ["a", "b"], "nothing")
    plot_label_confusion(tmp_path / "labels.png", np.zeros((0, 1)), np.zeros((0, 1), int), ["a"], "nothing")
    classes = categorical_figures(np.zeros((0, 2)), np.zeros(0, int), ["a", "b"])["per_label"]
    plot_class_bars(tmp_path / "classes.png", classes, "nothing")
    assert len(list(tmp_path.iterdir())) == 5


def test_without_matplotlib_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"stylematch\[train\]"):
        plot_label_bars(tmp_path / "bars.png", {}, "nothing")
    assert not list(tmp_path.iterdir())
