"""Who is compared: one module each with a class Contender, run by benchmarks.contender in the Python that has what it needs.

Contender(path, context_size=…, threads=…, …) loads the model; `run(prompts, count)` continues every prompt (a list of token ids) by `count`
tokens, greedily and past the end of text, and answers {"requests": [{"first": s, "end": s, "tokens": n}, …]}: for each prompt the
seconds from the call to its first token and to its last, as benchmarks.figures reads them. `about` says which build answers.
"""
