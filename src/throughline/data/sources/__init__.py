"""Where a corpus comes from: one file a source. A new source is one file here, one YAML in `conf/data`, one test."""

from abc import ABC, abstractmethod

from throughline.data.corpus import Corpus
from throughline.data.vocab import Vocab


class Source(ABC):
    """Reads a corpus; the fields of a subclass are its settings."""

    @abstractmethod
    def read(self, vocab: Vocab | None = None) -> Corpus:
        """Read the corpus, encoded with `vocab` or, where none is given, with that of its training split.

        Raises:
            UserError: the data cannot be used.
        """
