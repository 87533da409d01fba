// Backend libraries by explicit path. llama.cpp's own search looks into the current directory and is never called.
#include "guard.hpp"

#include "build-info.h"  // common
#include "ggml-backend.h"

#if defined(_WIN32)
#    define WIN32_LEAN_AND_MEAN
#    define NOMINMAX
#    include <windows.h>

#    include <cstring>
#else
#    include <dlfcn.h>
#endif

namespace gollama {

#if defined(_WIN32)
static std::wstring wide(const char * utf8) {
    std::wstring result(MultiByteToWideChar(CP_UTF8, 0, utf8, -1, nullptr, 0), L'\0');
    MultiByteToWideChar(CP_UTF8, 0, utf8, -1, &result[0], static_cast<int>(result.size()));
    return result;
}
#endif

class library {
  public:
    explicit library(const char * path) {
#if defined(_WIN32)
        handle = LoadLibraryExW(wide(path).c_str(), nullptr, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
        if (!handle) {
            throw failure(GOLLAMA_FAILED, std::string(path) + " cannot be loaded");
        }
#else
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            throw failure(GOLLAMA_FAILED, dlerror());
        }
#endif
    }
    ~library() {
#if defined(_WIN32)
        FreeLibrary(handle);
#else
        dlclose(handle);
#endif
    }
    library(const library &) = delete;

    int score() const {
#if defined(_WIN32)
        auto * function = reinterpret_cast<int (*)()>(GetProcAddress(handle, "ggml_backend_score"));
#else
        auto * function = reinterpret_cast<int (*)()>(dlsym(handle, "ggml_backend_score"));
#endif
        return function ? function() : 1;  // a library without variants suits every machine
    }

  private:
#if defined(_WIN32)
    HMODULE handle = nullptr;
#else
    void * handle = nullptr;
#endif
};

}  // namespace gollama

extern "C" {

const char * gollama_library_file(int32_t index) {
#if defined(_WIN32)
    return nullptr;  // Windows binds each library to the file it was loaded with
#else
    const void * addresses[] = { reinterpret_cast<const void *>(ggml_backend_buft_name),
                                 reinterpret_cast<const void *>(llama_version),
                                 reinterpret_cast<const void *>(llama_build_number) };
    static thread_local Dl_info info;
    return index >= 0 && index < 3 && dladdr(addresses[index], &info) ? info.dli_fname : nullptr;
#endif
}

int32_t gollama_backend_score(const char * path, gollama_error * error) {
    return gollama::guarded(error, -1, [&] { return gollama::library(path).score(); });
}

bool gollama_backend_load(const char * path, gollama_error * error) {
    return gollama::guarded(error, false, [&] {
#if defined(_WIN32)
        // ggml would read the path in the system's code page; by its name alone it gets what is loaded already
        const gollama::library held(path);
        const char * const     last = std::strrchr(path, '\\');
        const char * const     name = last ? last + 1 : path;
#else
        const char * const name = path;
#endif
        if (!ggml_backend_load(name)) {
            throw gollama::failure(GOLLAMA_FAILED, gollama::with_log(std::string(path) + " cannot be used"));
        }
        return true;
    });
}

}  // extern "C"
