"""From labelled data to models and fits of rules: training, its sources, evaluation."""
