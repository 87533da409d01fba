// Speculation by llama.cpp's common layer: drafts that the next step checks.
#include "context.hpp"

#include "speculative.h"  // common

#include <algorithm>

namespace gollama {

struct track {
    llama_tokens history;       // without its last token
    llama_token  last = 0;
    llama_tokens draft;
    size_t       n_draft_model = 0;  // tokens of the history that the draft model has in memory
};

}  // namespace gollama

struct gollama_speculator {
    gollama_context *             target  = nullptr;
    llama_context *               context = nullptr;  // the draft model's
    common_speculative_ptr        speculative;
    std::vector<gollama::track>   tracks;
    std::unique_ptr<gollama::batch> batch;
    int32_t                       n_vocab = 0;
    bool                          broken  = false;

    ~gollama_speculator() {
        if (broken) {
            speculative.release();
            return;
        }
        speculative.reset();
        if (context) {
            target->threads->detach(context);
            llama_free(context);
        }
    }

    gollama::track & at(int32_t index) {
        if (index < 0 || index >= static_cast<int32_t>(tracks.size())) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "there is no track " + std::to_string(index));
        }
        return tracks[index];
    }

    void extend(const gollama_draft & draft, const llama_token * tokens) {
        gollama::track & track = at(draft.track);
        if (draft.n_new < 1 && (draft.restart || track.history.empty())) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "a track begins with at least one token");
        }
        if (!draft.restart && !track.history.empty() && draft.n_new > 0) {
            track.history.push_back(track.last);
        }
        if (draft.restart) {
            const llama_tokens before = std::move(track.history);
            track.history.assign(tokens, tokens + std::max(draft.n_new - 1, 0));
            const auto limit    = std::min(track.n_draft_model, std::min(before.size(), track.history.size()));
            track.n_draft_model = std::mismatch(before.begin(), before.begin() + limit, track.history.begin()).first - before.begin();
        } else if (draft.n_new > 0) {
            track.history.insert(track.history.end(), tokens, tokens + draft.n_new - 1);
        }
        if (draft.n_new > 0) {
            track.last = tokens[draft.n_new - 1];
        }
        if (draft.restart) {
            common_speculative_begin(speculative.get(), draft.track, track.history);
        }
    }

    // Bring the draft model's memory of a track to its history.
    void follow(int32_t index) {
        gollama::track & track = tracks[index];
        llama_memory_seq_rm(llama_get_memory(context), index, track.n_draft_model, -1);
        while (track.n_draft_model < track.history.size()) {
            const auto rest  = static_cast<int32_t>(track.history.size() - track.n_draft_model);
            const auto count = std::min(rest, static_cast<int32_t>(llama_n_batch(context)));
            batch->clear();
            batch->add({ index, static_cast<int32_t>(track.n_draft_model), count, 0 }, track.history.data() + track.n_draft_model, n_vocab);
            if (!common_speculative_process(speculative.get(), batch->value)) {
                throw gollama::failure(GOLLAMA_FAILED, gollama::with_log("the draft model could not take in the text"));
            }
            track.n_draft_model += count;
        }
    }

    void prepare(const gollama_draft & draft) {
        gollama::track & track = tracks[draft.track];
        track.draft.clear();
        auto & params = common_speculative_get_draft_params(speculative.get(), draft.track);
        const auto room = context ? static_cast<int32_t>(llama_n_ctx_seq(context)) - static_cast<int32_t>(track.history.size()) - 2 : draft.n_max;
        if (std::min(draft.n_max, room) < 1) {
            params.drafting = false;
            return;
        }
        if (context) {
            follow(draft.track);
        }
        params.drafting = true;
        params.n_max    = std::min(draft.n_max, room);
        params.n_past   = static_cast<llama_pos>(track.history.size());
        params.id_last  = track.last;
        params.prompt   = &track.history;
        params.result   = &track.draft;
    }
};

extern "C" {

gollama_speculator * gollama_speculator_new(gollama_context * target, llama_model * draft_model, llama_context_params draft_params,
                                            int32_t n_tracks, int32_t n_match, int32_t n_max, gollama_error * error) {
    return gollama::guarded(error, static_cast<gollama_speculator *>(nullptr), [&] {
        auto result     = std::make_unique<gollama_speculator>();
        result->target  = target;
        result->n_vocab = llama_vocab_n_tokens(target->vocab);
        result->tracks.resize(n_tracks);
        common_params_speculative params;
        if (draft_model) {
            result->n_vocab = std::min(result->n_vocab, llama_vocab_n_tokens(llama_model_get_vocab(draft_model)));
            result->context = llama_init_from_model(draft_model, draft_params);
            if (!result->context) {
                throw gollama::not_made(GOLLAMA_FAILED, "llama.cpp could not make a context for the draft model");
            }
            target->threads->attach(result->context);
            result->batch = std::make_unique<gollama::batch>(llama_n_batch(result->context), n_tracks, 0);
            params.types  = { COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE };
            params.draft.n_max   = n_max;
            params.draft.p_min   = 0.5f;  // a token that is likelier wrong than right costs more than it gives
            params.draft.ctx_tgt = target->context;
            params.draft.ctx_dft = result->context;
        } else {
            params.types               = { COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE };
            params.ngram_simple.size_n = static_cast<uint16_t>(n_match);
            params.ngram_simple.size_m = static_cast<uint16_t>(n_max);
        }
        result->speculative.reset(common_speculative_init(params, n_tracks));
        return result.release();
    });
}

void gollama_speculator_free(gollama_speculator * speculator) {
    gollama_error ignored;
    gollama::guarded(&ignored, 0, [&] {
        delete speculator;
        return 0;
    });
}

bool gollama_speculator_draft(gollama_speculator * speculator, gollama_draft * drafts, int32_t n_drafts, const llama_token * new_tokens,
                              llama_token * drafted, int32_t capacity, gollama_error * error) {
    const bool done = gollama::guarded(error, false, [&] {
        if (speculator->broken) {
            throw gollama::failure(GOLLAMA_BROKEN, "an assertion of llama.cpp failed in this speculator earlier");
        }
        for (int32_t i = 0; i < n_drafts; new_tokens += drafts[i].n_new, i++) {
            speculator->extend(drafts[i], new_tokens);
        }
        for (int32_t i = 0; i < n_drafts; i++) {
            speculator->prepare(drafts[i]);
        }
        common_speculative_draft(speculator->speculative.get());
        int32_t total = 0;
        for (int32_t i = 0; i < n_drafts; i++) {
            const auto & draft  = speculator->tracks[drafts[i].track].draft;
            drafts[i].n_drafted = std::min(static_cast<int32_t>(draft.size()), std::min(drafts[i].n_max, capacity - total));
            std::copy_n(draft.begin(), drafts[i].n_drafted, drafted + total);
            total += drafts[i].n_drafted;
        }
        return true;
    });
    speculator->broken |= error->code == GOLLAMA_BROKEN;
    return done;
}

bool gollama_speculator_accept(gollama_speculator * speculator, int32_t track, int32_t n_accepted, gollama_error * error) {
    const bool done = gollama::guarded(error, false, [&] {
        speculator->at(track);
        common_speculative_accept(speculator->speculative.get(), track, static_cast<uint16_t>(n_accepted));
        return true;
    });
    speculator->broken |= error->code == GOLLAMA_BROKEN;
    return done;
}

}  // extern "C"
