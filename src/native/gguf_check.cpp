// Checks a GGUF file's metadata before llama.cpp's loader meets it: the loader asserts, divides and allocates by it.
#define _FILE_OFFSET_BITS 64  // where off_t would have 32

#include "gguf_check.hpp"

#include "ggml.h"
#include "gguf.h"
#include "guard.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace gollama {

namespace {

[[noreturn]] void refuse(const std::string & message) { throw failure(GOLLAMA_INVALID_MODEL, message); }

// A `long` has 32 bits on Windows, and files are larger.
bool seek(std::FILE * file, uint64_t offset, int from) {
#if defined(_WIN32)
    return _fseeki64(file, static_cast<int64_t>(offset), from) == 0;
#else
    return fseeko(file, static_cast<off_t>(offset), from) == 0;
#endif
}

int64_t tell(std::FILE * file) {
#if defined(_WIN32)
    return _ftelli64(file);
#else
    return ftello(file);
#endif
}

// Reads ahead in large blocks; gguf asks for a few bytes at a time.
class block_reader {
  public:
    explicit block_reader(const char * path) : file(ggml_fopen(path, "rb"), std::fclose), block(1 << 20) {
        if (!file) {
            refuse(std::string("the file cannot be opened: ") + std::strerror(errno));
        }
        const int64_t end = seek(file.get(), 0, SEEK_END) ? tell(file.get()) : -1;
        size              = end < 0 ? 0 : static_cast<uint64_t>(end);
    }

    static size_t read(void * self, void * output, uint64_t offset, size_t length) {
        return static_cast<block_reader *>(self)->copy(static_cast<char *>(output), offset, length);
    }

    uint64_t size = 0;

  private:
    size_t copy(char * output, uint64_t offset, size_t length) {
        size_t done = 0;
        while (done < length) {
            if (offset < start || offset >= start + filled) {
                start  = offset;
                filled = seek(file.get(), offset, SEEK_SET) ? std::fread(block.data(), 1, block.size(), file.get()) : 0;
                if (filled == 0) {
                    break;
                }
            }
            const size_t part = std::min<uint64_t>(length - done, start + filled - offset);
            std::memcpy(output + done, block.data() + (offset - start), part);
            done += part;
            offset += part;
        }
        return done;
    }

    std::unique_ptr<std::FILE, int (*)(std::FILE *)> file;
    std::vector<char>                                block;
    uint64_t                                         start  = 0;
    size_t                                           filled = 0;
};

class metadata {
  public:
    explicit metadata(const gguf_context * gguf) : gguf(gguf) {
        const int64_t id = gguf_find_key(gguf, "general.architecture");
        if (id < 0 || gguf_get_kv_type(gguf, id) != GGUF_TYPE_STRING) {
            refuse("the file does not say its architecture (general.architecture)");
        }
        architecture = gguf_get_val_str(gguf, id);
    }

    // The key of an array, -1 where there is none; refused if it is something else.
    int64_t array(const char * key, gguf_type type) const {
        const int64_t id = gguf_find_key(gguf, key);
        if (id < 0) {
            return -1;
        }
        if (gguf_get_kv_type(gguf, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(gguf, id) != type) {
            refuse(std::string("the metadata key ") + key + " is not an array of " + gguf_type_name(type));
        }
        return id;
    }

    size_t length(int64_t id) const { return id < 0 ? 0 : gguf_get_arr_n(gguf, id); }

    // A hyperparameter of the architecture must lie in a range where llama.cpp's arithmetic and allocations hold.
    void check_size(const char * name, uint64_t least, uint64_t most) const {
        const std::string key = architecture + "." + name;
        const int64_t     id  = gguf_find_key(gguf, key.c_str());
        if (id < 0) {
            return;
        }
        const void * values = nullptr;
        size_t       count  = 1;
        gguf_type    type   = gguf_get_kv_type(gguf, id);
        if (type == GGUF_TYPE_ARRAY) {
            type   = gguf_get_arr_type(gguf, id);
            count  = gguf_get_arr_n(gguf, id);
            values = type == GGUF_TYPE_STRING ? nullptr : gguf_get_arr_data(gguf, id);
        } else if (type != GGUF_TYPE_STRING) {
            values = gguf_get_val_data(gguf, id);
        }
        if (type != GGUF_TYPE_UINT32 && type != GGUF_TYPE_INT32) {
            return;  // llama.cpp refuses other types by name
        }
        for (size_t i = 0; i < count; i++) {
            uint32_t value;
            std::memcpy(&value, static_cast<const char *>(values) + i * sizeof(value), sizeof(value));
            if (value < least || value > most) {
                refuse("the metadata key " + key + " is " + std::to_string(value) + ", which is not between " +
                       std::to_string(least) + " and " + std::to_string(most));
            }
        }
    }

    // The epsilon of a norm: ggml asserts its sign on a compute thread, where nobody can catch it.
    void check_epsilon(const char * name) const {
        const std::string key = architecture + "." + name;
        const int64_t     id  = gguf_find_key(gguf, key.c_str());
        if (id >= 0 && gguf_get_kv_type(gguf, id) == GGUF_TYPE_FLOAT32) {
            const float value = gguf_get_val_f32(gguf, id);
            if (!(value >= 0.0f && value <= 1.0f)) {
                refuse("the metadata key " + key + " is " + std::to_string(value) + ", which is not between 0 and 1");
            }
        }
    }

    const gguf_context * gguf;
    std::string          architecture;
};

void check_vocabulary(const metadata & meta) {
    const int64_t tokens = meta.array("tokenizer.ggml.tokens", GGUF_TYPE_STRING);
    const int64_t scores = meta.array("tokenizer.ggml.scores", GGUF_TYPE_FLOAT32);
    const int64_t types  = meta.array("tokenizer.ggml.token_type", GGUF_TYPE_INT32);
    const size_t  count  = meta.length(tokens);
    if ((scores >= 0 && meta.length(scores) < count) || (types >= 0 && meta.length(types) < count)) {
        refuse("the vocabulary has " + std::to_string(count) + " tokens and fewer scores or types");
    }
    meta.array("tokenizer.ggml.merges", GGUF_TYPE_STRING);
}

void check_tensors(const gguf_context * gguf, uint64_t size) {
    const uint64_t data = gguf_get_data_offset(gguf);
    for (int64_t i = 0; i < gguf_get_n_tensors(gguf); i++) {
        const uint64_t offset = data + gguf_get_tensor_offset(gguf, i);
        const uint64_t length = gguf_get_tensor_size(gguf, i);
        if (offset > size || length > size - offset) {
            refuse(std::string("the file ends before the data of tensor ") + gguf_get_tensor_name(gguf, i) +
                   ": it is cut off or damaged");
        }
        const int64_t * shape = gguf_get_tensor_ne(gguf, i);
        for (int axis = 0; axis < GGML_MAX_DIMS; axis++) {
            if (shape[axis] < 1) {
                refuse(std::string("the tensor ") + gguf_get_tensor_name(gguf, i) + " has an empty dimension");
            }
        }
    }
}

using gguf_ptr = std::unique_ptr<gguf_context, void (*)(gguf_context *)>;

}  // namespace

// Opens the file's header: that the file is GGUF, and that its tensors lie within it.
static gguf_ptr open_header(const char * path) {
    block_reader reader(path);
    char         magic[4] = {};
    if (block_reader::read(&reader, magic, 0, sizeof(magic)) < sizeof(magic) || std::memcmp(magic, GGUF_MAGIC, sizeof(magic)) != 0) {
        refuse(reader.size == 0 ? "the file is empty" : "the file is not in GGUF format: it does not begin with 'GGUF'");
    }
    const gguf_init_params params = { /*.no_alloc =*/true, /*.ctx =*/nullptr };
    gguf_ptr               gguf(gguf_init_from_callback(block_reader::read, &reader, 0, reader.size, params), gguf_free);
    if (!gguf) {
        refuse(with_log("the GGUF header is damaged"));
    }
    check_tensors(gguf.get(), reader.size);
    return gguf;
}

void check_container(const char * path) { open_header(path); }

// The layer of a tensor called direction.N, from 1 on; 0 for another name.
static int64_t direction(const std::string & name) {
    const std::string prefix = "direction.";
    const bool        fits   = name.size() > prefix.size() && name.size() <= prefix.size() + 9 && name.compare(0, prefix.size(), prefix) == 0 &&
                      std::all_of(name.begin() + prefix.size(), name.end(), [](char digit) { return digit >= '0' && digit <= '9'; });
    return fits ? std::stol(name.substr(prefix.size())) : 0;
}

void check_control_vector(const char * path, int32_t n_embd, int32_t n_layer) {
    const gguf_ptr gguf  = open_header(path);
    const int64_t  count = gguf_get_n_tensors(gguf.get());
    if (count < 1) {
        refuse("the file has no directions: it is not a control vector");
    }
    for (int64_t i = 0; i < count; i++) {
        const std::string name  = gguf_get_tensor_name(gguf.get(), i);
        const int64_t     layer = direction(name);
        const int64_t *   shape = gguf_get_tensor_ne(gguf.get(), i);
        if (layer < 1) {
            refuse("the tensor " + name + " is no direction of a layer: the file is not a control vector");
        }
        if (gguf_get_tensor_type(gguf.get(), i) != GGML_TYPE_F32 || shape[1] != 1 || shape[2] != 1 || shape[3] != 1) {
            refuse("the tensor " + name + " is no list of 32-bit numbers");
        }
        if (shape[0] != n_embd || layer >= n_layer) {
            refuse("the control vector is of another model: " + name + " has " + std::to_string(shape[0]) + " numbers, and this model " +
                   std::to_string(n_embd) + " in each of the layers 1 to " + std::to_string(n_layer - 1));
        }
    }
}

int32_t check_gguf(const char * path) {
    const gguf_ptr gguf = open_header(path);
    const metadata meta(gguf.get());
    meta.check_size("block_count", 1, 4096);
    meta.check_size("embedding_length", 1, 1 << 20);
    meta.check_size("context_length", 1, 1 << 30);
    meta.check_size("attention.head_count", 0, 1 << 16);
    meta.check_size("attention.head_count_kv", 0, 1 << 16);
    meta.check_size("attention.key_length", 1, 1 << 16);
    meta.check_size("attention.value_length", 1, 1 << 16);
    meta.check_size("rope.dimension_count", 0, 1 << 16);
    meta.check_size("expert_count", 0, 1 << 16);
    // llama.cpp divides by these
    for (const char * name : { "full_attention_interval", "wkv.head_size", "ssm.group_count", "ssm.time_step_rank" }) {
        meta.check_size(name, 1, 1 << 20);
    }
    if (meta.architecture == "olmo2" || meta.architecture == "phimoe") {
        meta.check_size("attention.head_count", 1, 1 << 16);
    }
    for (const char * name : { "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.group_norm_epsilon" }) {
        meta.check_epsilon(name);
    }
    check_vocabulary(meta);
    const int64_t learned = gguf_find_tensor(gguf.get(), "position_embd.weight");
    return learned < 0 ? 0 : static_cast<int32_t>(std::min<int64_t>(gguf_get_tensor_ne(gguf.get(), learned)[1], INT32_MAX));
}

}  // namespace gollama
