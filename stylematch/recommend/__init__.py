"""Style, and what a person wears -> ranked items, each with a reason."""

from stylematch.recommend.recommender import FaceQuery, Recommendation, Recommender

__all__ = ["FaceQuery", "Recommendation", "Recommender"]
