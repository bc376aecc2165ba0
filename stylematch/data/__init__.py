"""Where pictures and labels come from: photos, CelebA, Fashion-MNIST and one label schema."""
