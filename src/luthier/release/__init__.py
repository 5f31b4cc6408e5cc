"""What comes out: a measured predictor as files that other programs load, each tested again before it is a release.

export.py       the stage: from a candidate of the last run to a folder of exports
base.py         the model it was tuned from: its folder, its licence, its GGUF
source.py       the measured predictor, found again in the store
gguf_file.py    weights as GGUF, beside the metadata of the base's own
portable.py     the adapter and the merged weights as folders for PEFT and transformers
runtimes.py     each export asked through its own runtime
llama_server.py llama.cpp's server in a process of its own
parity.py       the gate: do its answers and its score equal those that were measured?
card.py         the model card
manifest.py     what was released, by content
"""
