/* The C face of gollama's shim over llama.cpp's C and C++ layers.
 *
 * Every function that can fail takes a `gollama_error *`, clears it, and on failure fills it and returns NULL,
 * false or a negative number. No C++ exception and no failed GGML_ASSERT on the calling thread leaves a function.
 *
 * Threads: a model may be used by many threads; a gollama_context and its samplers by one thread at a time,
 * except gollama_context_cancel.
 */
#ifndef GOLLAMA_H
#define GOLLAMA_H

#include "llama.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && !defined(__MINGW32__) /* as llama.h has it */
#    define GOLLAMA_API __declspec(dllexport)
#else
#    define GOLLAMA_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum gollama_code {
    GOLLAMA_OK               = 0,
    GOLLAMA_FAILED           = 1, /* llama.cpp refused, with its own words in the message */
    GOLLAMA_INVALID_ARGUMENT = 2,
    GOLLAMA_INVALID_MODEL    = 3, /* the model file is damaged or not a model */
    GOLLAMA_OUT_OF_MEMORY    = 4,
    GOLLAMA_CONTEXT_FULL     = 5, /* no free cells in the context's memory */
    GOLLAMA_CANCELLED        = 6,
    GOLLAMA_BROKEN           = 7, /* an assertion of llama.cpp failed: the object must not be used again */
};

typedef struct gollama_error {
    int32_t code; /* enum gollama_code */
    char    message[1020];
} gollama_error;

/* ---- start-up ---------------------------------------------------------------------------------------------- */

/* Receives whole lines of llama.cpp's log. `level` is enum ggml_log_level; the text is UTF-8 and ends with 0. */
typedef void (*gollama_log_callback)(int32_t level, const char * line);

/* Once per process, before anything else. Routes the log and failed assertions; prints nothing. */
GOLLAMA_API void gollama_start(gollama_log_callback log);

/* The files that the loaded ggml, llama and common code comes from, by index 0 to 2; NULL where that cannot be told.
 * They differ from the package's own where another copy of llama.cpp was in the process first. */
GOLLAMA_API const char * gollama_library_file(int32_t index);

/* Lines below this level are dropped before they reach the callback. */
GOLLAMA_API void gollama_set_log_level(int32_t level);

/* How well a backend library suits this machine: 0 = not at all, higher = better, negative = cannot be loaded. */
GOLLAMA_API int32_t gollama_backend_score(const char * path, gollama_error * error);
GOLLAMA_API bool    gollama_backend_load (const char * path, gollama_error * error);

/* ---- devices and their memory ------------------------------------------------------------------------------ */

typedef struct gollama_device {
    const char * name;        /* unique in the process: "CPU", "CUDA0", "Vulkan1" */
    const char * description;
    const char * backend;     /* as ggml calls it: "CPU", "CUDA", "Vulkan" */
    const char * id;          /* on its bus, "0000:01:00.0"; NULL where nobody knows */
    int32_t      type;        /* enum ggml_backend_dev_type */
    uint64_t     memory_free; /* bytes */
    uint64_t     memory_total;
} gollama_device;

/* The devices of all backends that were loaded; what `name` and so on point to lives as long as the process. */
GOLLAMA_API int32_t gollama_device_count(void);
GOLLAMA_API bool    gollama_device_describe(int32_t index, gollama_device * device, gollama_error * error);

/* Whether a device answers and computes: opens it, adds two numbers on it and lets it go again. */
GOLLAMA_API bool gollama_device_try(const char * name, gollama_error * error);

/* Bytes that a model and one context of it take on a device. */
typedef struct gollama_memory {
    ggml_backend_dev_t device; /* NULL: the host */
    uint64_t weights;
    uint64_t context;          /* KV cache and recurrent states */
    uint64_t compute;
    uint64_t memory_free;      /* now, of the device */
    uint64_t memory_total;
} gollama_memory;

/* What loading would take, without doing it: a row for each device that is used, the host's last. Their number. */
GOLLAMA_API int32_t gollama_estimate(const char * path, struct llama_model_params model, struct llama_context_params context,
                                     gollama_memory * rows, int32_t capacity, gollama_error * error);

/* Choose what model->n_gpu_layers < 0 and context->n_ctx == 0 leave open such that it fits: `leave` bytes stay free on each device.
 * Fails with GOLLAMA_OUT_OF_MEMORY where nothing does. `tensor_split` has llama_max_devices() numbers and `overrides`
 * llama_max_tensor_buft_overrides(); the parameters point to them afterwards. */
GOLLAMA_API bool gollama_fit(const char * path, struct llama_model_params * model, struct llama_context_params * context,
                             float * tensor_split, struct llama_model_tensor_buft_override * overrides, size_t * leave,
                             uint32_t least_context, gollama_error * error);

/* What a context took of each device, as gollama_estimate tells it. */
GOLLAMA_API int32_t gollama_context_memory(struct llama_context * context, gollama_memory * rows, int32_t capacity, gollama_error * error);

/* ---- models ------------------------------------------------------------------------------------------------ */

/* Load a model after checking the file's header, sizes and vocabulary. */
GOLLAMA_API struct llama_model * gollama_model_load(
        const char * path, struct llama_model_params params, gollama_error * error);

/* What llama.h's llama_model_n_* and llama_model_is_* functions tell, by their names. Where only the vocabulary was
 * loaded, llama.cpp knows no sizes and they are 0. */
typedef struct gollama_model_facts {
    uint64_t n_params;
    uint64_t size;
    int32_t  n_ctx_train;
    int32_t  n_embd;
    int32_t  n_layer;
    int32_t  n_head;
    int32_t  n_head_kv;
    int32_t  n_swa;
    int32_t  n_vocab;
    int32_t  n_positions; /* learned position embeddings, which no context may pass; 0 if they are computed */
    bool     has_encoder;
    bool     has_decoder;
    bool     is_recurrent;
    bool     is_hybrid;
    bool     is_diffusion;
    bool     add_bos;
    bool     add_eos;
    bool     add_sep;
} gollama_model_facts;

GOLLAMA_API bool gollama_model_describe(const struct llama_model * model, gollama_model_facts * facts, gollama_error * error);

/* The tokens that end a generation; their number, of which no more than `capacity` are written. -1 is a failure. */
GOLLAMA_API int32_t gollama_end_tokens(
        const struct llama_vocab * vocab, llama_token * tokens, int32_t capacity, gollama_error * error);

/* Text to tokens: the number of tokens, or minus the number needed if `capacity` is too small.
 * -1 with error->code set is a failure. */
GOLLAMA_API int32_t gollama_tokenize(
        const struct llama_vocab * vocab, const char * text, int32_t length,
        llama_token * tokens, int32_t capacity, bool add_special, bool parse_special, gollama_error * error);

/* Tokens to bytes, every byte of every token, with no clean-up: the inverse of gollama_tokenize.
 * Returns the number of bytes, or minus the number needed. `special` renders control tokens too;
 * `start` says that the tokens begin a text, where some vocabularies carry one space that is not part of it. */
GOLLAMA_API int32_t gollama_detokenize(
        const struct llama_vocab * vocab, const llama_token * tokens, int32_t count,
        char * text, int32_t capacity, bool special, bool start, gollama_error * error);

/* ---- sampling ---------------------------------------------------------------------------------------------- */

typedef struct gollama_sampling {
    uint32_t seed;
    int32_t  top_k;
    float    top_p;
    float    min_p;
    float    typical_p;
    float    temperature;
    float    dynamic_temperature_range;
    float    dynamic_temperature_exponent;
    float    top_n_sigma;
    float    xtc_probability;
    float    xtc_threshold;
    int32_t  repeat_last_n;
    float    repeat_penalty;
    float    frequency_penalty;
    float    presence_penalty;
    float    dry_multiplier;
    float    dry_base;
    int32_t  dry_allowed_length;
    int32_t  dry_penalty_last_n;
    int32_t  mirostat;
    float    mirostat_tau;
    float    mirostat_eta;
    bool     ignore_eos;

    const char ** dry_sequence_breakers;
    size_t        n_dry_sequence_breakers;

    const llama_logit_bias * logit_bias;
    size_t                   n_logit_bias;

    const char * grammar; /* GBNF, root rule "root"; NULL for none */

    const char ** grammar_triggers; /* the grammar applies from where one of these texts comes; none: at once */
    size_t        n_grammar_triggers;

    /* JSON, what a chat's format asks for; NULL for none: grammar, grammar_lazy, grammar_triggers, preserved_tokens,
     * generation_prompt, thinking_start, thinking_ends as gollama_chat_render tells them, thinking_budget (tokens; -1: no
     * limit), thinking_message (put before the end that is forced) */
    const char * chat;
} gollama_sampling;

/* llama.cpp's own defaults; the pointers are NULL. */
GOLLAMA_API gollama_sampling gollama_sampling_default(void);

/* llama.cpp's default sequence breakers of the DRY sampler, by index; NULL past the end. */
GOLLAMA_API const char * gollama_dry_sequence_breaker_default(size_t index);

struct gollama_sampler;
GOLLAMA_API struct gollama_sampler * gollama_sampler_new(
        const struct llama_model * model, const gollama_sampling * sampling, gollama_error * error);
GOLLAMA_API void gollama_sampler_free  (struct gollama_sampler * sampler);
GOLLAMA_API bool gollama_sampler_reset (struct gollama_sampler * sampler, gollama_error * error);
/* Tell the sampler of a token: `generated` false for the prompt's, which no grammar sees. */
GOLLAMA_API bool gollama_sampler_accept(
        struct gollama_sampler * sampler, const llama_token * tokens, int32_t count, bool generated, gollama_error * error);
/* Replaces the contents of `text` by a description of the chain; the length as in gollama_detokenize. */
GOLLAMA_API int32_t gollama_sampler_describe(
        const struct gollama_sampler * sampler, char * text, int32_t capacity, gollama_error * error);

/* ---- contexts ---------------------------------------------------------------------------------------------- */

struct gollama_context;
GOLLAMA_API struct gollama_context * gollama_context_new(
        struct llama_model * model, struct llama_context_params params, gollama_error * error);
GOLLAMA_API void                   gollama_context_free  (struct gollama_context * context);
GOLLAMA_API struct llama_context * gollama_context_llama (struct gollama_context * context);
/* From any thread: the step that runs, or the next one, ends with GOLLAMA_CANCELLED within one graph node. */
GOLLAMA_API void                   gollama_context_cancel(struct gollama_context * context);
/* From the owning thread: forget a cancellation that no step has seen. */
GOLLAMA_API void                   gollama_context_resume(struct gollama_context * context);

/* A run of tokens of one sequence, at consecutive positions. Runs come in the order of their sequences. */
typedef struct gollama_run {
    int32_t sequence;
    int32_t position;  /* of its first token */
    int32_t n_tokens;
    int32_t n_outputs; /* the logits of its last n rows are wanted */
} gollama_run;

/* A row of the batch whose next token is due, or wanted for its probability. */
typedef struct gollama_due {
    int32_t     row;
    int32_t     n_draft;    /* the rows behind hold a draft of this many tokens; as many are accepted as the sampler agrees with */
    int32_t     n_logprobs; /* -1: none; else the log probability of the chosen token and those of the n likeliest */
    llama_token token;      /* where there is no sampler: nothing is sampled, and this one's probability wanted */
} gollama_due;

/* What a step gives; the pointers are valid until the context's next step.
 *
 * All numbers lie in `words`, so that one copy takes them: GOLLAMA_RESULT_WORDS of them in the order of the enum; behind them
 * two for each due, its enum gollama_code (a failure concerns this one only, see gollama_outcome_message) and the number of
 * its tokens; behind those three for each token, in the order of the due: the token, whether it ends the generation, and the
 * length of its text, 0 for a control token. */
typedef struct gollama_result {
    const int32_t *     words;
    int32_t             n_words;
    const char *        bytes;        /* the texts, one behind the other */
    const float *       logprobs;     /* of each token: natural logarithm, before any sampler; 0 if it was not asked for */
    const llama_token * top_tokens;   /* of each token the min(n_logprobs, n_vocab) likeliest, best first */
    const float *       top_logprobs;
} gollama_result;

enum gollama_result_word {
    GOLLAMA_RESULT_N_FAILED,
    GOLLAMA_RESULT_N_BYTES,
    GOLLAMA_RESULT_N_LOGPROBS, /* 0 if none were asked for */
    GOLLAMA_RESULT_N_TOP,
    GOLLAMA_RESULT_DECODE_MICROSECONDS,
    GOLLAMA_RESULT_SAMPLE_MICROSECONDS,
    GOLLAMA_RESULT_WORDS,
};

/* The hot loop's one call: decode the runs, then sample, accept and render what is due. False if nothing was computed. */
GOLLAMA_API bool gollama_step(
        struct gollama_context * context, const llama_token * tokens, const gollama_run * runs, int32_t n_runs,
        const gollama_due * due, struct gollama_sampler * const * samplers, int32_t n_due, gollama_result * result, gollama_error * error);

/* Why the due of this index failed in the last step. */
GOLLAMA_API const char * gollama_outcome_message(const struct gollama_context * context, int32_t index);

/* ---- adapters ---------------------------------------------------------------------------------------------- */

/* A LoRA adapter for a model, from a GGUF file that is checked: what is damaged or does not fit is GOLLAMA_INVALID_MODEL.
 * Not while a context of the model is made or takes up adapters; nor is llama_adapter_lora_free. */
GOLLAMA_API struct llama_adapter_lora * gollama_adapter_load(struct llama_model * model, const char * path, gollama_error * error);

/* A control vector for a model, likewise, by llama.cpp's common layer; of its directions those of the layers first to last, from 1 on. */
struct gollama_control_vector;
GOLLAMA_API struct gollama_control_vector * gollama_control_vector_load(
        const struct llama_model * model, const char * path, int32_t first, int32_t last, gollama_error * error);
GOLLAMA_API void gollama_control_vector_free(struct gollama_control_vector * vector);

/* From the owning thread: compute with these and no others, each with its scale. What is in memory was computed otherwise, and is
 * the caller's to keep apart. llama.cpp plans its computations anew, which is what it costs. */
GOLLAMA_API bool gollama_context_set_adapters(
        struct gollama_context * context, struct llama_adapter_lora ** adapters, float * adapter_scales, int32_t n_adapters,
        const struct gollama_control_vector * const * vectors, const float * vector_scales, int32_t n_vectors, gollama_error * error);

/* ---- speculation ------------------------------------------------------------------------------------------- */

/* Drafts of what comes next on several tracks, each one text in the making, by llama.cpp's common layer. */
struct gollama_speculator;

/* With a draft model (whose context has `n_tracks` sequences) by that; with NULL by what followed the last `n_match` tokens
 * when they came before. A draft has at most `n_max` tokens. The target context must outlive it. */
GOLLAMA_API struct gollama_speculator * gollama_speculator_new(
        struct gollama_context * target, struct llama_model * draft_model, struct llama_context_params draft_params,
        int32_t n_tracks, int32_t n_match, int32_t n_max, gollama_error * error);
GOLLAMA_API void gollama_speculator_free(struct gollama_speculator * speculator);

typedef struct gollama_draft {
    int32_t track;
    int32_t restart; /* not 0: the track begins anew with the new tokens */
    int32_t n_new;   /* tokens that the track got since it was asked last */
    int32_t n_max;   /* most tokens wanted now */

    int32_t n_drafted; /* result */
} gollama_draft;

/* Draft for all at once; `new_tokens` and `drafted` hold the tokens of one behind those of the other. */
GOLLAMA_API bool gollama_speculator_draft(
        struct gollama_speculator * speculator, gollama_draft * drafts, int32_t n_drafts, const llama_token * new_tokens,
        llama_token * drafted, int32_t capacity, gollama_error * error);
/* How many of a track's last draft came true. */
GOLLAMA_API bool gollama_speculator_accept(
        struct gollama_speculator * speculator, int32_t track, int32_t n_accepted, gollama_error * error);

/* ---- sequences in a context's memory ------------------------------------------------------------------------- */

/* First and last position held; -1 if there are none. */
GOLLAMA_API bool gollama_sequence_positions(
        struct gollama_context * context, int32_t sequence, int32_t * first, int32_t * last, gollama_error * error);
/* Forget the positions [start, end), end < 0: all behind; false, without an error, where this kind of memory cannot. */
GOLLAMA_API bool gollama_sequence_remove(
        struct gollama_context * context, int32_t sequence, int32_t start, int32_t end, gollama_error * error);
/* Forget `discard` positions behind the first `keep` and move those behind them up. */
GOLLAMA_API bool gollama_sequence_shift(
        struct gollama_context * context, int32_t sequence, int32_t keep, int32_t discard, gollama_error * error);
/* A sequence's state as bytes. `n_partial` of them, at the end, are the part that is not plain attention. */
GOLLAMA_API int64_t gollama_sequence_size(
        struct gollama_context * context, int32_t sequence, int64_t * n_partial, gollama_error * error);
GOLLAMA_API int64_t gollama_sequence_save(
        struct gollama_context * context, int32_t sequence, uint8_t * data, int64_t size, gollama_error * error);
/* Replace a sequence by a saved one, also of a context that had another number of sequences: `n_sequences` and
 * `n_partial` as they were at saving. On failure the sequence is empty. */
GOLLAMA_API bool gollama_sequence_load(
        struct gollama_context * context, int32_t sequence, const uint8_t * data, int64_t size,
        int32_t n_sequences, int64_t n_partial, gollama_error * error);

/* ---- embeddings -------------------------------------------------------------------------------------------- */

struct gollama_embedder;

typedef struct gollama_embedder_facts {
    int32_t width;     /* floats of one result */
    int32_t pooling;   /* enum llama_pooling_type, as it is used */
    int32_t sequences; /* most pieces in one call */
    int32_t capacity;  /* longest input for which there is memory now */
    bool    whole;     /* attention goes both ways: an input must come in one piece */
    bool    rank_head; /* the model can score a pair of texts */
} gollama_embedder_facts;

/* A part of an input, or all of it. */
typedef struct gollama_piece {
    const llama_token * tokens;
    int32_t             count;
    int32_t             position; /* of the first token; not 0: goes on behind the last call's piece, and is alone in its call */
    int32_t             total;    /* tokens of the whole input */
    float *             output;   /* the input's `width` floats, 0 before its first piece; with pooling none `count` times `width` */
} gollama_piece;

/* Of `params`, n_ubatch is the most tokens computed at once, as long as no single input has more; n_ctx, n_batch and
 * n_seq_max are chosen here. */
GOLLAMA_API struct gollama_embedder * gollama_embedder_new(
        struct llama_model * model, struct llama_context_params params, gollama_error * error);
GOLLAMA_API void gollama_embedder_free    (struct gollama_embedder * embedder);
GOLLAMA_API void gollama_embedder_describe(const struct gollama_embedder * embedder, gollama_embedder_facts * facts);
/* Have memory for inputs of so many tokens. What was made for shorter ones is freed first. */
GOLLAMA_API bool gollama_embedder_reserve (struct gollama_embedder * embedder, int32_t capacity, gollama_error * error);
/* Compute pieces of different inputs together. An input's output is whole after its last piece, and only then scaled to
 * length 1 where `normalize` is set. */
GOLLAMA_API bool gollama_embedder_compute (
        struct gollama_embedder * embedder, const gollama_piece * pieces, int32_t count, bool normalize, gollama_error * error);
/* As for contexts. */
GOLLAMA_API void gollama_embedder_cancel  (struct gollama_embedder * embedder);
GOLLAMA_API void gollama_embedder_resume  (struct gollama_embedder * embedder);

/* ---- chat -------------------------------------------------------------------------------------------------- */

struct gollama_chat_templates;
/* The model's own templates, or `source` where it is not NULL. */
GOLLAMA_API struct gollama_chat_templates * gollama_chat_templates_new(
        const struct llama_model * model, const char * source, gollama_error * error);
GOLLAMA_API void gollama_chat_templates_free(struct gollama_chat_templates * templates);
/* The Jinja text that is in use, llama.cpp's own where the model has none. It lives as long as the templates object. */
GOLLAMA_API const char * gollama_chat_templates_source(const struct gollama_chat_templates * templates);
/* JSON in: a list of OpenAI's messages, and an object with any of tools, tool_choice ("auto", "none", "required"),
 * parallel_tool_calls, json_schema, grammar, use_jinja, add_generation_prompt, enable_thinking, reasoning_format,
 * continue_final_message (true, "content", "reasoning_content"), template_kwargs, now (seconds since 1970).
 * JSON out: prompt, generation_prompt (what of it belongs to the answer), format (a number), and details where the number is
 * new: name, grammar, grammar_lazy, grammar_triggers, preserved_tokens, stops, thinking_start, thinking_ends,
 * supports_thinking. It belongs to the templates object and is valid until its next call; NULL on failure. */
GOLLAMA_API const char * gollama_chat_render(
        struct gollama_chat_templates * templates, const char * messages, const char * options, gollama_error * error);

/* Reads answers to the last request that was rendered. Needs the templates object no more. */
struct gollama_chat_parser;
GOLLAMA_API struct gollama_chat_parser * gollama_chat_parser_new(
        const struct gollama_chat_templates * templates, gollama_error * error);
GOLLAMA_API void gollama_chat_parser_free(struct gollama_chat_parser * parser);
/* An answer, or with `partial` its beginning, to JSON: content, reasoning_content, tool_calls (name, arguments as text, id).
 * It is valid until the parser's next call; NULL on failure. */
GOLLAMA_API const char * gollama_chat_parse(
        struct gollama_chat_parser * parser, const char * text, int32_t length, bool partial, gollama_error * error);

/* A JSON schema as a grammar, root rule "root". llama.cpp's converter drops keywords that it does not know where they stand,
 * and warns on stderr about patterns only: what is handed to it must have been checked. NULL on failure. */
GOLLAMA_API char * gollama_schema_grammar(const char * schema, gollama_error * error);
GOLLAMA_API void   gollama_text_free(char * text);

#ifdef __cplusplus
}
#endif

#endif
