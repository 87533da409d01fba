// Sequences in a context's memory: cutting, shifting, saving, restoring.
#include "context.hpp"

#include "llama-model.h"  // llama.cpp's src: llama.h does not tell what a saved cell consists of

#include <cstring>

namespace gollama {

static void require_memory(const gollama_context & context, int32_t sequence) {
    context.require_sequence(sequence);
    if (!context.memory) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "this model keeps no memory of sequences");
    }
}

// llama.cpp writes a sequence's attention part as: the number of streams, then for each stream the number of cells,
// and behind it the cells if there are any. Only one stream has some. To restore it where there is another number of
// streams, the empty ones are taken out or added.
static void restream(std::vector<uint8_t> & out, const uint8_t * part, size_t size, uint32_t from, uint32_t to) {
    const auto word = [&](size_t index) {
        uint32_t value = 0;
        if ((index + 1) * 4 > size) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it is too short");
        }
        std::memcpy(&value, part + index * 4, 4);
        return value;
    };
    const auto put = [&](uint32_t value) {
        const auto * bytes = reinterpret_cast<const uint8_t *>(&value);
        out.insert(out.end(), bytes, bytes + 4);
    };
    if (word(0) != from) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it has another number of streams than it says");
    }
    size_t before = 0;
    while (before < from && word(1 + before) == 0) {
        before++;
    }
    put(to);
    if (before < from) {
        const size_t after = from - before - 1;
        const size_t begin = 4 * (1 + before);
        if (size < begin + 4 * after) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it is too short");
        }
        out.insert(out.end(), part + begin, part + size - 4 * after);
    } else {
        put(0);
    }
    for (uint32_t i = 1; i < to; i++) {
        put(0);
    }
}

static const size_t HEADER = 8;  // magic and sequence, in front of the whole state and of a partial one

static std::vector<uint8_t> convert(const llama_model * model, const uint8_t * data, size_t size, size_t n_partial,
                                    uint32_t from, uint32_t to) {
    if (size < n_partial || n_partial < HEADER) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it is too short");
    }
    std::vector<uint8_t> out;
    out.reserve(size + 8 * to);
    out.insert(out.end(), data, data + HEADER);
    const bool   attention_only = n_partial == size;  // a plain cache is saved whole, whatever part is asked for
    const size_t n_tail         = n_partial - HEADER;
    const auto * tail           = data + size - n_tail;
    if (llama_model_is_recurrent(model)) {
        out.insert(out.end(), tail, tail + n_tail);  // has no streams
        return out;
    }
    if (!attention_only) {
        restream(out, data + HEADER, size - HEADER - n_tail, from, to);
    }
    if (llama_model_is_hybrid(model)) {
        out.insert(out.end(), tail, tail + n_tail);
    } else {
        restream(out, tail, n_tail, from, to);
    }
    return out;
}

// What llama.cpp does not check. It reserves memory for as many cells as a part says it has, and reads them only then; and
// tokens at negative positions could never be forgotten again. `cell_words`: the numbers that describe a cell of attention,
// its position first; 0: the part is recurrent, and has no streams.
static void check_cells(const uint8_t * part, size_t size, size_t cell_words, uint32_t most) {
    const auto word = [&](size_t index) {
        uint32_t value = 0;
        if ((index + 1) * 4 <= size) {
            std::memcpy(&value, part + index * 4, 4);
        }
        return value;
    };
    size_t index = cell_words ? 1 : 0;
    while (word(index) == 0 && index * 4 < size) {  // up to the first stream that has some
        index++;
    }
    const uint32_t count = word(index++);
    if (count > most) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it has more tokens than the context");
    }
    for (size_t i = 0; i < count && cell_words; i++) {
        if (word(index + i * cell_words) >= most) {
            throw failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it has positions that are not in the context");
        }
    }
}

static void check_state(const llama_model * model, const uint8_t * data, size_t size, size_t n_partial, uint32_t most) {
    if (size < n_partial || n_partial < HEADER) {
        throw failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it is too short");
    }
    const auto   rope       = llama_model_rope_type(model);
    const bool   extended   = rope == LLAMA_ROPE_TYPE_MROPE || rope == LLAMA_ROPE_TYPE_IMROPE || model->hparams.ple_n_heads > 0;
    const size_t cell_words = extended ? 6 : 3;  // position, number of sequences, sequence; and between them two positions and the token
    const size_t n_tail     = n_partial - HEADER;
    const bool   recurrent  = llama_model_is_recurrent(model);
    check_cells(data + HEADER, size - HEADER, recurrent ? 0 : cell_words, most);
    check_cells(data + size - n_tail, n_tail, recurrent || llama_model_is_hybrid(model) ? 0 : cell_words, most);
}

}  // namespace gollama

extern "C" {

bool gollama_sequence_positions(gollama_context * context, int32_t sequence, int32_t * first, int32_t * last, gollama_error * error) {
    return gollama::guarded(context, error, false, [&] {
        gollama::require_memory(*context, sequence);
        *first = llama_memory_seq_pos_min(context->memory, sequence);
        *last  = llama_memory_seq_pos_max(context->memory, sequence);
        return true;
    });
}

bool gollama_sequence_remove(gollama_context * context, int32_t sequence, int32_t start, int32_t end, gollama_error * error) {
    return gollama::guarded(context, error, false, [&] {
        gollama::require_memory(*context, sequence);
        return llama_memory_seq_rm(context->memory, sequence, start, end);
    });
}

bool gollama_sequence_shift(gollama_context * context, int32_t sequence, int32_t keep, int32_t discard, gollama_error * error) {
    return gollama::guarded(context, error, false, [&] {
        gollama::require_memory(*context, sequence);
        const llama_pos last = llama_memory_seq_pos_max(context->memory, sequence);
        if (keep < 0 || discard < 1 || keep + discard > last) {
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "positions that are not there cannot be taken out");
        }
        if (!llama_memory_can_shift(context->memory) || !llama_memory_seq_rm(context->memory, sequence, keep, keep + discard)) {
            throw gollama::failure(GOLLAMA_FAILED, "this model's memory cannot be shifted");
        }
        llama_memory_seq_add(context->memory, sequence, keep + discard, -1, -discard);
        return true;
    });
}

int64_t gollama_sequence_size(gollama_context * context, int32_t sequence, int64_t * n_partial, gollama_error * error) {
    return gollama::guarded(context, error, static_cast<int64_t>(-1), [&] {
        gollama::require_memory(*context, sequence);
        *n_partial = llama_state_seq_get_size_ext(context->context, sequence, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
        return static_cast<int64_t>(llama_state_seq_get_size_ext(context->context, sequence, LLAMA_STATE_SEQ_FLAGS_NONE));
    });
}

int64_t gollama_sequence_save(gollama_context * context, int32_t sequence, uint8_t * data, int64_t size, gollama_error * error) {
    return gollama::guarded(context, error, static_cast<int64_t>(-1), [&] {
        gollama::require_memory(*context, sequence);
        const size_t written = llama_state_seq_get_data_ext(context->context, data, size, sequence, LLAMA_STATE_SEQ_FLAGS_NONE);
        if (written == 0) {
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log("the sequence's state could not be saved"));
        }
        return static_cast<int64_t>(written);
    });
}

bool gollama_sequence_load(gollama_context * context, int32_t sequence, const uint8_t * data, int64_t size, int32_t n_sequences,
                           int64_t n_partial, gollama_error * error) {
    return gollama::guarded(context, error, false, [&] {
        gollama::require_memory(*context, sequence);
        llama_memory_seq_rm(context->memory, sequence, -1, -1);
        gollama::check_state(llama_get_model(context->context), data, size, n_partial, llama_n_ctx_seq(context->context));
        std::vector<uint8_t> converted;
        const auto           count = llama_n_seq_max(context->context);
        if (static_cast<uint32_t>(n_sequences) != count) {
            converted = gollama::convert(llama_get_model(context->context), data, size, n_partial, n_sequences, count);
            data      = converted.data();
            size      = converted.size();
        }
        if (llama_state_seq_set_data_ext(context->context, data, size, sequence, LLAMA_STATE_SEQ_FLAGS_NONE) == 0) {
            llama_memory_seq_rm(context->memory, sequence, -1, -1);
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log("the saved state cannot be restored"));
        }
        if (llama_memory_seq_pos_min(context->memory, sequence) < 0 ||
            llama_memory_seq_pos_max(context->memory, sequence) >= static_cast<llama_pos>(llama_n_ctx_seq(context->context))) {
            llama_memory_seq_rm(context->memory, sequence, -1, -1);
            throw gollama::failure(GOLLAMA_INVALID_ARGUMENT, "the saved state is damaged: it has positions that are not in the context");
        }
        return true;
    });
}

}  // extern "C"
