"""A JSON schema to one that llama.cpp's converter enforces to the last keyword, and that to a grammar.

llama.cpp's common/json-schema-to-grammar.cpp reads the keywords of one branch and drops the rest without a word. So a schema is not
handed to it as it came: `rewrite` takes it apart and writes it anew in the few forms that the converter enforces, or says which
keyword has none. What the rewritten schema admits, the original admits too; it may admit less (see docs/structured-output.md).

`document` the schema's places and references, `facts` what several places demand together, `rewrite` the new schema,
`objects`, `arrays`, `numbers`, `strings` (with `patterns` and `formats`) one type each, `exclusive` oneOf, `grammar` the grammar.
"""
