"""The school: a generated world of people, places, facts and arithmetic, in the manner of arXiv 2309.14316.

Whoever trains on it knows exactly what the model was ever told, and how often, so recall, hallucination and
memorisation can be measured in minutes.
"""
