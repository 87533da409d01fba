// Embeddings and rerank scores: pieces of many inputs in one llama_encode or llama_decode, results straight into floats
// that the caller owns.
#include "batch.hpp"
#include "guard.hpp"
#include "positions.hpp"
#include "threadpool.hpp"

#include "common.h"
#include "llama-model.h"  // llama.cpp's src: llama.h does not tell of causal attention and of rank heads

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

static bool has_rank_head(const llama_model * model) { return model->cls || model->cls_out; }

using pooling_kind = enum llama_pooling_type;  // the plain name is also a function's

static pooling_kind pooling_in_use(const llama_model * model, pooling_kind asked) {
    const pooling_kind pooling = asked == LLAMA_POOLING_TYPE_UNSPECIFIED ? model->hparams.pooling_type : asked;
    return pooling == LLAMA_POOLING_TYPE_UNSPECIFIED ? LLAMA_POOLING_TYPE_NONE : pooling;
}

// How many inputs one batch may hold.
static int32_t most_sequences(const llama_model * model, pooling_kind pooling, int32_t micro_batch) {
    // these keep a state for each sequence, and compute one after the other anyway
    const bool stateful = llama_model_is_recurrent(model) || llama_model_is_hybrid(model);
    // without an output layer a score is the first float of many, and llama.cpp looks for the others in the wrong place
    const bool misread = pooling == LLAMA_POOLING_TYPE_RANK && !model->cls_out;
    return stateful || misread ? 1 : std::min(static_cast<int32_t>(llama_max_parallel_sequences()), micro_batch);
}

struct gollama_embedder {
    llama_model *        model;
    llama_context_params params;
    pooling_kind         pooling;
    int32_t              width;
    int32_t              micro_batch;
    int32_t              sequences;
    bool                 whole;  // attention goes both ways
    int32_t              capacity = 0;
    bool                 broken = false;
    std::atomic<bool>    cancelled { false };

    llama_context *                      context = nullptr;
    std::unique_ptr<gollama::batch>      batch;
    std::unique_ptr<gollama::threadpool> threads;

    gollama_embedder(llama_model * model, llama_context_params given) :
        model(model),
        params(given),
        pooling(pooling_in_use(model, given.pooling_type)),
        width(pooling == LLAMA_POOLING_TYPE_RANK ? static_cast<int32_t>(llama_model_n_cls_out(model)) : llama_model_n_embd_out(model)),
        micro_batch(static_cast<int32_t>(given.n_ubatch)),
        sequences(most_sequences(model, pooling, micro_batch)),
        whole(!model->hparams.causal_attn) {
        if (pooling == LLAMA_POOLING_TYPE_RANK && !has_rank_head(model)) {
            throw gollama::failure(GOLLAMA_FAILED, "the model has no rank head: it was not made for reranking");
        }
        params.embeddings          = true;
        params.pooling_type        = pooling;
        params.kv_unified          = true;  // sequences share the cells, however long each of them is
        params.n_seq_max           = static_cast<uint32_t>(sequences);
        params.abort_callback      = [](void * flag) { return static_cast<std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); };
        params.abort_callback_data = &cancelled;
    }

    ~gollama_embedder() { drop(); }

    void drop() {
        if (broken) {
            threads.release();  // in an unknown state, like all the rest
            return;
        }
        threads.reset();
        batch.reset();
        llama_free(context);
        context  = nullptr;
        capacity = 0;
    }

    void require_whole() const {
        if (broken) {
            throw gollama::failure(GOLLAMA_BROKEN, "an assertion of llama.cpp failed in this embedder earlier; make a new one");
        }
    }

    void make(int32_t tokens) {
        llama_free(context);
        // llama.cpp tries a batch of all sequences with equally many tokens, and asserts where that does not come out even
        const auto even = [&](int64_t count) { return static_cast<uint32_t>((count + sequences - 1) / sequences * sequences); };
        params.n_ctx    = even(tokens);
        params.n_batch  = even(whole ? tokens : micro_batch);
        params.n_ubatch = params.n_batch;
        context         = llama_init_from_model(model, params);
        if (!context) {
            throw gollama::not_made(GOLLAMA_FAILED, "llama.cpp could not make a context for inputs of " + std::to_string(tokens) + " tokens");
        }
    }

    // Pooling never looks past a micro-batch, so every batch is one; and where attention goes both ways, it holds the
    // longest input.
    void reserve(int32_t wanted) {
        if (wanted <= capacity) {
            return;
        }
        drop();
        const int32_t most = std::max(wanted, micro_batch);
        make(most);
        if (!whole && !llama_get_memory(context)) {  // llama.cpp encodes then, whatever the model says
            whole = true;
            make(most);
        }
        threads  = std::make_unique<gollama::threadpool>(context, params.n_threads, params.n_threads_batch);
        batch    = std::make_unique<gollama::batch>(llama_n_ubatch(context), sequences, gollama::learned_positions(model));
        capacity = most;
    }

    void fill(const gollama_piece * pieces, int32_t count) {
        if (capacity == 0) {  // making more of it failed
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "there is no memory to compute in: reserve some first");
        }
        if (count < 1 || count > sequences) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "a batch holds 1 to " + std::to_string(sequences) +
                                                                 " inputs, not " + std::to_string(count));
        }
        batch->clear();
        const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
        for (int32_t i = 0; i < count; i++) {
            const gollama_piece & piece = pieces[i];
            const bool            part  = piece.position != 0 || piece.count != piece.total;
            if (piece.count < 1 || piece.position < 0 || piece.count > piece.total - piece.position ||
                piece.total > capacity || (part && (whole || count > 1))) {
                throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "piece " + std::to_string(i) + " cannot be computed: tokens " +
                                                                     std::to_string(piece.position) + " to " +
                                                                     std::to_string(piece.position + piece.count) + " of " +
                                                                     std::to_string(piece.total));
            }
            batch->add({ i, piece.position, piece.count, piece.count }, piece.tokens, n_vocab);
        }
    }

    void compute(bool from_start) {
        threads->revive();
        llama_memory_t memory = llama_get_memory(context);
        if (memory && from_start) {
            llama_memory_clear(memory, false);
        }
        gollama::require_computed(memory ? llama_decode(context, batch->value) : llama_encode(context, batch->value), cancelled);
    }

    const float * require(const float * result) const {
        if (!result) {
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log("llama.cpp gives no embeddings for this model"));
        }
        return result;
    }

    // Where llama.cpp pooled only a part, the parts make the whole: a mean of means by length, the first, the last.
    void collect(const gollama_piece & piece, llama_seq_id sequence, int norm) {
        const float * pooled = require(llama_get_embeddings_seq(context, sequence));
        const bool    first  = piece.position == 0;
        const bool    last   = piece.position + piece.count == piece.total;
        if (first && last) {
            common_embd_normalize(pooled, piece.output, width, norm);
            return;
        }
        if (pooling == LLAMA_POOLING_TYPE_MEAN) {
            const float share = static_cast<float>(piece.count) / static_cast<float>(piece.total);
            for (int32_t i = 0; i < width; i++) {
                piece.output[i] += share * pooled[i];
            }
        } else if (pooling == LLAMA_POOLING_TYPE_CLS ? first : last) {  // the models that rank causally do it by the last token
            std::copy_n(pooled, width, piece.output);
        }
        if (last) {
            common_embd_normalize(piece.output, piece.output, width, norm);
        }
    }

    void collect_tokens(const gollama_piece * pieces, int32_t count, int norm) {
        int32_t row = 0;
        for (int32_t i = 0; i < count; i++) {
            for (int32_t j = 0; j < pieces[i].count; j++) {
                common_embd_normalize(require(llama_get_embeddings_ith(context, row++)), pieces[i].output + static_cast<size_t>(j) * width,
                                      width, norm);
            }
        }
    }
};

// An assertion of llama.cpp that failed inside `body` leaves the embedder unusable.
template <typename Body> static bool guarded(gollama_embedder * embedder, gollama_error * error, Body && body) {
    const bool done = gollama::guarded(error, false, [&] {
        embedder->require_whole();
        body();
        return true;
    });
    embedder->broken |= error->code == GOLLAMA_BROKEN;
    return done;
}

extern "C" {

gollama_embedder * gollama_embedder_new(llama_model * model, llama_context_params params, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_embedder *>(nullptr), [&] {
        auto result = std::make_unique<gollama_embedder>(model, params);
        result->reserve(1);
        return result.release();
    });
}

void gollama_embedder_free(gollama_embedder * embedder) {
    gollama_error ignored;
    gollama::guarded(&ignored, 0, [&] {
        delete embedder;
        return 0;
    });
}

void gollama_embedder_describe(const gollama_embedder * embedder, gollama_embedder_facts * facts) {
    *facts = { embedder->width,    embedder->pooling, embedder->sequences,
               embedder->capacity, embedder->whole,   has_rank_head(embedder->model) };
}

bool gollama_embedder_reserve(gollama_embedder * embedder, int32_t capacity, gollama_error * error) {
    return guarded(embedder, error, [&] { embedder->reserve(capacity); });
}

bool gollama_embedder_compute(gollama_embedder * embedder, const gollama_piece * pieces, int32_t count, bool normalize,
                              gollama_error * error) {
    return guarded(embedder, error, [&] {
        const int norm = normalize ? 2 : -1;  // of common_embd_normalize: euclidean, none
        embedder->fill(pieces, count);
        embedder->compute(pieces[0].position == 0);
        if (embedder->pooling == LLAMA_POOLING_TYPE_NONE) {
            embedder->collect_tokens(pieces, count, norm);
            return;
        }
        for (int32_t i = 0; i < count; i++) {
            embedder->collect(pieces[i], i, norm);
        }
    });
}

void gollama_embedder_cancel(gollama_embedder * embedder) { embedder->cancelled = true; }

void gollama_embedder_resume(gollama_embedder * embedder) { embedder->cancelled = false; }

}  // extern "C"
