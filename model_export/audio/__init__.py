"""Sound as a model hears it: features of a spectrum, in the very integers a board computes (firmware/audio/).

`parameters` says what is computed, `tables` what a board is given for it, `front_end` computes it in numpy, `wav_file` reads
sound. Python 3.8 and numpy only: training data are made of it wherever they lie. docs/audio.md.
"""
