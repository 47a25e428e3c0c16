"""Words: what a text is found by, in any language, and looked for by."""

from memstack.words.keys import keys_of, query_words
from memstack.words.split import fold, split

__all__ = ["fold", "keys_of", "query_words", "split"]
