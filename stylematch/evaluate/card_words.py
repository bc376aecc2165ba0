"""What a model card says of data and use, by data set and by label group; of others, what can be said of any."""

from stylematch.settings.train_data import FOLDERS, TABLE

INTENDED = {
    "attributes": (
        "Describing how a face in a photo presents itself (hair, glasses, make-up, expression), so that rules can pick "
        "a style of clothing. The labels are how CelebA's annotators saw celebrities; several of them ('Attractive', "
        "'Chubby', 'Male', 'Young', ...) are judgements, not facts."
    ),
    "landmarks": "Finding the eyes, the nose and the corners of the mouth in a crop of a face.",
    "category": (
        "Telling ten kinds of garment apart in 28x28 pictures of Fashion-MNIST's look (light on black, trimmed), and "
        "embedding them for search."
    ),
    "articleType": "Telling what kind of article a product picture on a plain background shows.",
    "neck": "Telling the neckline of a garment in a picture of a shop.",
    "sleeve_length": "Telling the length of a garment's sleeves in a picture of a shop.",
    "pattern": "Telling the pattern of a garment in a picture of a shop.",
}
ANY_INTENDED = "Predicting the group {} of pictures like those that it learned from."
ANY_TAGS = "Predicting, yes or no, {}, of pictures like those that it learned from."
_FACES = (
    "Not for identifying people, not for any decision about a person, not for surveillance. CelebA's people are "
    "celebrities, mostly light-skinned and young; expect worse figures on others."
)
NOT_FOR = {
    "attributes": _FACES,
    "landmarks": _FACES,
    "category": "Not for pictures of another look: they have to be trimmed and negated first, as the tool does.",
    "gender": "Not for telling a person's gender: it is the shop's label of a garment.",
}
ANY_NOT_FOR = (
    "Not for pictures of another kind than those that it learned from, and not for any decision about a person."
)
DATA = {
    "celeba": (
        "CelebA (Liu, Luo, Wang, Tang, ICCV 2015): photos of celebrities with 40 attributes. Licence of the data, and "
        "so of what learned from them: non-commercial research only. Whose points a title below names, the data "
        "set says: official points, or pseudo-labels of a face detector."
    ),
    "fashion-mnist": (
        "Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017): 70,000 grey pictures of ten kinds of garment. MIT licence."
    ),
    "fashion-product": (
        "Fashion Product Images (Kaggle): product pictures of a shop with its own categories. The pictures carry no "
        "licence that would let them be passed on."
    ),
    "garments": (
        "Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017), MIT licence, and Fashion Product Images (Kaggle), whose pictures "
        "carry no licence that would let them be passed on: trimmed, negated and reduced to 28x28 pixels alike."
    ),
    TABLE: (
        "Pictures that whoever trained it labelled in a table. Where they come from, who labelled them and how, and "
        "what they lack, only that person knows, and should say here."
    ),
    FOLDERS: (
        "Pictures that whoever trained it sorted into folders. Where they come from, who sorted them and how, and what "
        "they lack, only that person knows, and should say here."
    ),
    "flixstock": (
        "FlixStock's garment attributes: neck, sleeve length and pattern. The pictures carry no licence that would let "
        "them be passed on."
    ),
}
