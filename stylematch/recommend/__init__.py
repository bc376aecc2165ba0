"""Style, and what a person wears -> ranked items, each with a reason."""

from stylematch.recommend.query import FaceQuery, Recommendation
from stylematch.recommend.recommender import Recommender

__all__ = ["FaceQuery", "Recommendation", "Recommender"]
