"""Faces of known style, and what they wear -> k items each, ranked, each with a reason.

- The query is the embedding of the worn clothes where these can be seen, else for each of the style's categories its
  *prototype*: the mean of those of its items whose tags fit the style best. Of what no torso shows (shoes, bags,
  trousers) worn clothes say nothing: that is searched by the prototype, and its similarity is no part of its score.
- The index brings the 200 items of each category that are nearest to the query (400, 800, ... where k needs them).
- score = weighted mean of the similarity, the tags' fit times the style's score, and the category's place in the rule.
- Slots go round the categories; each takes the item of highest marginal relevance (``choose``).
- The chosen are ranked by score, then by id. Other categories, and items that their catalogue says are for another
  gender than the rule asks for, or, where it asks for none, than the person's, come in only where the style's own run
  out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from stylematch.errors import UserError
from stylematch.recommend.candidates import NEAREST, Candidates, key_of, preferred
from stylematch.recommend.choose import Choice
from stylematch.recommend.query import FaceQuery, Recommendation
from stylematch.recommend.reasons import Query, reason_for
from stylematch.recommend.style_items import StyleItems, search_by_clothes
from stylematch.search.catalog import GENDER, ItemCatalog, Tags
from stylematch.settings.score import Ranking

_Taken = tuple[Candidates, npt.NDArray[np.float64], list[int]]
"""Candidates, their scores, and which of them were taken."""


class Recommender:
    """Recommends items of a catalogue for faces of known style.

    Parameters
    ----------
    catalog : ItemCatalog
        The items.
    categories_of_style : mapping of str to sequence of str
        For every style the categories to recommend, in the order in which they get slots. A category that the
        catalogue lacks leaves its slots to the others.
    tags_of_style : mapping of str to mapping of str to sequence of str, optional
        For a style, by tag, what its items should be.
    top_k : int
        Items per face, at least 1. There are fewer only where the catalogue has fewer.
    seed : int
        Another seed, another choice among near-equal items for faces whose clothes cannot be seen.
    ranking : Ranking
        Weights, and how much variety counts.

    Raises
    ------
    UserError
        If ``top_k`` is below 1, or the catalogue has no items (left).
    """

    def __init__(
        self,
        catalog: ItemCatalog,
        categories_of_style: Mapping[str, Sequence[str]],
        *,
        tags_of_style: Mapping[str, Tags] | None = None,
        top_k: int = 5,
        seed: int = 0,
        ranking: Ranking | None = None,
    ) -> None:
        if top_k < 1:
            raise UserError(f"top_k is {top_k}; ask for at least 1 item per face.")
        self.ranking = ranking or Ranking()
        if not len(catalog.others(())):
            raise UserError("The catalogue has no items that may be recommended.")
        self.top_k, self.seed = top_k, seed
        self._catalog = catalog
        self._categories = {style: tuple(dict.fromkeys(wanted)) for style, wanted in categories_of_style.items()}
        self._tags = {style: (tags_of_style or {}).get(style, {}) for style in categories_of_style}
        self._styles: dict[tuple[str, tuple[str, ...]], StyleItems] = {}

    def recommend(
        self,
        photo_id: str,
        face: int,
        style: str,
        style_score: float,
        rule: str,
        worn: npt.NDArray[np.float32] | None = None,
        genders: tuple[str, ...] = (),
    ) -> list[Recommendation]:
        """Choose and rank the items for one face; parameters as in ``FaceQuery``."""
        return self.recommend_all([FaceQuery(photo_id, face, style, style_score, rule, worn, genders)])[0]

    def _style(self, name: str, genders: tuple[str, ...]) -> StyleItems:
        """Return a style's items for people of some genders; its own tags come first."""
        asked = tuple(self._tags[name].get(GENDER, genders)) if self.ranking.weight_tags else ()
        if (name, asked) not in self._styles:
            self._styles[name, asked] = StyleItems(self._catalog, self._categories[name], self._tags[name], asked)
        return self._styles[name, asked]

    def recommend_all(self, faces: Sequence[FaceQuery]) -> list[list[Recommendation]]:
        """Choose and rank the items for some faces; the same for each as if it were alone.

        Returns
        -------
        list of list of Recommendation
            For each face its items by rank: ``top_k`` of them or all that there are, no item twice, and none that
            looks like another as long as there are others.

        Raises
        ------
        UserError
            If a face has a style that the recommender does not know.
        """
        answers: list[list[Recommendation]] = [[] for _ in faces]
        worn: list[tuple[int, StyleItems]] = []
        for number, face in enumerate(faces):
            if face.style not in self._categories:
                raise UserError(f"Unknown style {face.style!r}; the recommender knows {', '.join(self._categories)}.")
            style = self._style(face.style, face.genders)
            if face.worn is not None and style.sees_clothes:
                worn.append((number, style))
            else:
                answers[number] = self._answer(style, replace(face, worn=None), style.typical(NEAREST))
        if worn:
            clothes = np.array([faces[number].worn for number, _ in worn])
            found = search_by_clothes(self._catalog, [style for _, style in worn], clothes, NEAREST)
            for (number, style), near in zip(worn, found, strict=True):
                answers[number] = self._answer(style, faces[number], style.worn_candidates(near))
        return answers

    def _answer(self, style: StyleItems, face: FaceQuery, candidates: Candidates) -> list[Recommendation]:
        size = NEAREST
        while True:
            # Nothing is taken twice, so a larger choice starts again: its lists must not depend on NEAREST's multiples.
            choice = Choice(self._catalog, self.top_k, self.ranking.mmr_lambda)
            scores = candidates.scores(face.style_score, style.priors, self.ranking)
            everything = np.ones(len(scores), np.bool_)
            taken = []
            if face.worn is None or candidates.seen is not None:
                taken += choice.fill(candidates, scores, self._preferred(style, face, candidates, scores))
            taken += choice.fill(candidates, scores, everything)
            if choice.is_full or candidates.is_whole:
                break
            size *= 2
            candidates = (
                style.typical(size)
                if face.worn is None
                else style.worn_candidates(search_by_clothes(self._catalog, [style], face.worn[None], size)[0])
            )
        taken += choice.fill(candidates, scores, everything, looks_alike=True)
        parts: list[_Taken] = [(candidates, scores, taken)]
        if not choice.is_full and len(style.other_items):
            parts.append(self._fill_up(style, face, choice))
        return self._ranked(style, face, parts)

    def _fill_up(self, style: StyleItems, face: FaceQuery, choice: Choice) -> _Taken:
        """Fill the list with the nearest items that are not the style's own, all of them looked at."""
        query = style.other_prototype if face.worn is None else face.worn
        candidates = style.other_candidates(query, is_worn=face.worn is not None)
        scores = candidates.scores(face.style_score, style.priors, self.ranking)
        everything = np.ones(len(scores), np.bool_)
        taken = choice.fill(candidates, scores, everything)
        return candidates, scores, taken + choice.fill(candidates, scores, everything, looks_alike=True)

    def _preferred(
        self, style: StyleItems, face: FaceQuery, candidates: Candidates, scores: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Return what the face prefers: what its clothes speak for, and some of the near-equal best of all else."""
        face_key = key_of(repr((face.photo_id, face.face, self.seed)))
        if candidates.seen is not None:
            scores = candidates.scores(face.style_score, style.priors, self.ranking, typical=True)
        liked = preferred(candidates, scores, style.sizes, self._item_keys, face_key, self.top_k)
        return liked if candidates.seen is None else liked | candidates.seen

    @cached_property
    def _item_keys(self) -> npt.NDArray[np.uint64]:
        return np.fromiter(map(key_of, self._catalog.item_ids), np.uint64, len(self._catalog))

    def _ranked(self, style: StyleItems, face: FaceQuery, parts: Sequence[_Taken]) -> list[Recommendation]:
        found = []
        for part, (candidates, scores, taken) in enumerate(parts):
            for item in taken:
                position = int(candidates.positions[item])
                found.append((-float(scores[item]), self._catalog.item_ids[position], part, item, position))
        rows = []
        for rank, (negative, item_id, part, item, position) in enumerate(sorted(found), start=1):
            candidates, place = parts[part][0], int(parts[part][0].place[item])
            is_seen = candidates.seen is None or bool(candidates.seen[item])
            similarity = float(candidates.similarity[item]) if is_seen else None
            query: Query = "style" if face.worn is None or not is_seen else "worn"
            category = self._catalog.category(position)
            named = style.categories[place] if place < len(style.categories) else None
            rows.append(
                Recommendation(
                    rank=rank,
                    position=position,
                    item_id=item_id,
                    category=category,
                    score=-negative,
                    similarity=similarity,
                    query=query,
                    tag_fit=float(candidates.fit[item]) if style.tags else None,
                    reason=reason_for(
                        category=category,
                        named=named,
                        choice=(place + 1, len(style.categories)) if self.ranking.weight_category else None,
                        similarity=similarity if self.ranking.weight_similarity else None,
                        query=query,
                        fitting=style.fitting(self._catalog, position) if self.ranking.weight_tags else (),
                        style=face.style,
                        rule=face.rule,
                        made_for=style.made_for(position),
                    ),
                )
            )
        return rows
