"""Documents: where answers can be looked up.

    read       a file becomes documents: texts that know their headings
    hypertext  HTML as such a text
    chunk      a document becomes passages, cut along its structure
    index      the passages on disk, searchable, brought up to date file by file
    library    what is asked: the passages nearest to a text, by words, by meaning, or both fused
    rerank     a cross-encoder that puts found passages in order

Whatever a document says is data: nothing here, nor in the rungs that show passages, reads it as anything else.
"""

from luthier.documents.chunk import Chunk
from luthier.documents.library import BYS, By, Hit, Library, open_library, passages

__all__ = ["BYS", "By", "Chunk", "Hit", "Library", "open_library", "passages"]
